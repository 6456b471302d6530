/* The rows of isolation_test: which methods are called with what, and what those get who may not see it. */
#ifndef TESTS_INTEGRATION_ISOLATION_ROWS_H
#define TESTS_INTEGRATION_ISOLATION_ROWS_H

#include "wire/status.h"

#include <stddef.h>

#define CONTROL "forge.v1.ControlService/"
#define ORGANIZATION "forge.v1.OrganizationService/"
#define PROJECT "forge.v1.ProjectService/"
#define PROMPT "forge.v1.PromptService/"
#define EVALUATION "forge.v1.EvaluationService/"
#define TRACE "forge.v1.TraceService/"
#define POLICY "forge.v1.PolicyService/"
#define HIDDEN_TRACE "0af7651916cd43dd8448eb211c80319d"

/* What a caller needs. SESSION: the token of a user's login; where that is called with a key, PERMISSION_DENIED. */
enum need { PUBLIC, ANY_KEY, SESSION, OPERATOR };
/* request: JSON; $o organization, $p project, $q prompt, $k API key, $u user, $a service account, $d dataset, $v model provider, $m model,
 * $e evaluation, $s score, $l policy, $b violation, all of the organization at home; $n a new number, $t the time in nanoseconds. */
struct isolation_row {
    const char *method, *request;
    enum need need;
    forge_code foreign, bound; /* what the other organization and the key of another project get */
};
extern const struct isolation_row isolation_rows[];
extern const size_t isolation_row_count;
enum { ISOLATION_ROWS_MAX = 256 };

/* The rows that the own organization is refused too: what would change too much, or shows that the request arrived. part: of the request.
 */
struct isolation_refusal {
    const char *method, *part;
    forge_code code;
};
extern const struct isolation_refusal isolation_refusals[];
extern const size_t isolation_refusal_count;

#endif
