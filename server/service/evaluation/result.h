/* A result on its way in: checked by itself, given its item, judged, stored. Private to AddResults (result_add.c, result_judge.c). */
#ifndef SERVER_SERVICE_EVALUATION_RESULT_H
#define SERVER_SERVICE_EVALUATION_RESULT_H

#include "evaluate/evaluate.h"
#include "service/cost.h"
#include "service/evaluation/evaluation.h"
#include "wire/crypto.h"

enum {
    /* Of judging, in units of struct evaluate_score: no result is begun behind the first, none goes on behind the second. With the last
     * evaluator of that one it is some 5 s of a core at worst, half of the method's time and of idle_in_transaction_session_timeout. */
    RESULT_CALL_WORK_MAX = 300 * 1000 * 1000,
    RESULT_WORK_MAX = 1000 * 1000 * 1000
};

struct result_item {
    struct forge_uuid id;
    const char *key, *expected; /* expected NULL: not read, nothing is judged by it or there was too much of it */
};

/* What the results of a call are judged by. */
struct result_rules {
    struct evaluate_set *set;
    double pass_threshold;
    int32_t repetitions;
    struct cost_price price;
};

struct result {
    const Forge__V1__EvaluationResult *in;
    Forge__V1__ItemVerdict *verdict; /* of the reply; rejected: nothing of the rest counts */
    struct forge_uuid item_id;       /* as given; nil: by key */
    int32_t repetition;
    const struct result_item *item;
    uint8_t hash[FORGE_SHA256_SIZE]; /* of what the caller sent */
    struct result *first;            /* of this item and repetition in this call; itself for most */

    /* Of the first only: */
    bool is_stored, is_added; /* is_added: by this call */
    uint8_t stored_hash[FORGE_SHA256_SIZE];
    double score;
    bool passed;
    bool has_cost, is_cost_computed;
    int64_t cost_micros;
    const char *scores_json; /* {"evaluator_scores": [...]} */
};

bool result_is_rejected(const struct result *result);
/* Checks what needs no database; a wrong one is rejected. */
void result_check(struct rpc_call *call, struct result *result);
/* Checks it against the evaluation, with its item found; a wrong one is rejected. */
void result_check_rules(struct rpc_call *call, const struct result_rules *rules, struct result *result);
/* Sets hash: of each field as it counts, so that spelling and order make no difference. */
void result_hash(struct rpc_call *call, const struct result_rules *rules, struct result *result);
/* Sets score, passed, cost and scores_json, or rejects what takes too much work; adds to *work. */
forge_code result_judge(struct rpc_call *call, const struct result_rules *rules, struct result *result, uint64_t *work) FORGE_MUST_CHECK;

#endif
