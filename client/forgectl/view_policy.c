/* What policies say of a text. */
#include "amount.h"
#include "view.h"
#include "view_marks.h"
#include "view_text.h"

#include <inttypes.h>
#include <string.h>

enum { PLACES = 5, NS_PER_MS = 1000000 };

static enum terminal_style style_of(Forge__V1__PolicyAction action)
{
    return action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK  ? TERMINAL_BAD
           : action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK ? TERMINAL_WARN
                                                                    : TERMINAL_PLACE;
}

static enum terminal_style mark_style_of(Forge__V1__PolicyAction action)
{
    return action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK  ? TERMINAL_MARK_BAD
           : action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK ? TERMINAL_MARK_WARN
                                                                    : TERMINAL_MARK_PLACE;
}

static void print_styled(FILE *out, const struct terminal *terminal, enum terminal_style style, const char *text)
{
    terminal_print(terminal, out, style, text, strlen(text));
}

/* ---- what to do ---- */

static void print_policies(FILE *out, struct forge_arena *arena, const Forge__V1__CheckPoliciesResponse *answer)
{
    fputs(answer->n_policies ? "Evaluated: " : "No policy is in force here.", out);
    for (size_t i = 0; i < answer->n_policies; i++)
        fprintf(out, "%s%s %d", i ? ", " : "", view_text_line(arena, answer->policies[i]->policy_name), (int)answer->policies[i]->version);
    fputc('\n', out);
}

static void print_decision(FILE *out, const struct terminal *terminal, struct forge_arena *arena,
                           const Forge__V1__CheckPoliciesResponse *answer)
{
    bool is_masked = answer->action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK;
    bool is_flagged = answer->action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
    print_styled(out, terminal, answer->allowed ? TERMINAL_GOOD : TERMINAL_BAD, answer->allowed ? "Allowed" : "Blocked");
    fprintf(out, "%s (decision %s)\n", is_masked ? ", masked" : is_flagged ? ", flagged" : "", view_text_line(arena, answer->decision_id));
    print_policies(out, arena, answer);
    if (answer->retry_after_ms > 0) {
        char pause[AMOUNT_SIZE];
        bool is_too_long = answer->retry_after_ms > INT64_MAX / NS_PER_MS;
        amount_duration(is_too_long ? INT64_MAX : answer->retry_after_ms * NS_PER_MS, pause);
        fprintf(out, "Too often: again in %s\n", pause);
    }
}

/* ---- findings ---- */

static const char *policy_name(struct forge_arena *arena, const Forge__V1__CheckPoliciesResponse *answer, const char *id)
{
    for (size_t i = 0; i < answer->n_policies; i++)
        if (!strcmp(answer->policies[i]->policy_id, id))
            return view_text_line(arena, answer->policies[i]->policy_name);
    return view_text_line(arena, id);
}

static void print_places(FILE *out, struct forge_arena *arena, const Forge__V1__PolicyFinding *finding, const char *text)
{
    for (size_t i = 0; i < finding->n_ranges && i < PLACES; i++) {
        const Forge__V1__TextRange *range = finding->ranges[i];
        const char *kind = view_text_enum(arena, &forge__v1__pii_kind__descriptor, (int)range->pii_kind);
        size_t line, character;
        view_marks_position(text, range->start_byte > 0 ? (size_t)range->start_byte : 0, &line, &character);
        fprintf(out, "%s %zu:%zu%s%s%s", i ? "," : " at", line, character, *kind ? " (" : "", kind, *kind ? ")" : "");
    }
    if (finding->n_ranges > PLACES)
        fprintf(out, " and %zu more", finding->n_ranges - PLACES);
}

static void print_finding(FILE *out, const struct terminal *terminal, struct forge_arena *arena,
                          const Forge__V1__CheckPoliciesRequest *request, const Forge__V1__CheckPoliciesResponse *answer,
                          const Forge__V1__PolicyFinding *finding)
{
    bool is_output = finding->stage == FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT;
    bool is_dry = finding->mode == FORGE__V1__POLICY_MODE__POLICY_MODE_DRY_RUN;
    const char *text = is_output ? request->output : request->input;
    fputc('\n', out);
    print_styled(out, terminal, style_of(finding->action),
                 view_text_enum(arena, &forge__v1__policy_action__descriptor, (int)finding->action));
    fprintf(out, "  %s %d, rule %s, %s%s: %s\n", policy_name(arena, answer, finding->policy_id), (int)finding->policy_version,
            view_text_line(arena, finding->rule), view_text_enum(arena, &forge__v1__severity__descriptor, (int)finding->severity),
            is_dry ? ", dry run: not taken" : "", view_text_line(arena, finding->message));
    if (!finding->n_ranges)
        return;
    fprintf(out, "  %s", view_text_enum(arena, &forge__v1__policy_stage__descriptor, (int)finding->stage));
    print_places(out, arena, finding, text);
    fputc('\n', out);
    view_marks(out, terminal, arena, mark_style_of(finding->action), text, finding->ranges, finding->n_ranges);
}

/* ---- masked texts ---- */

static void print_masked(FILE *out, struct forge_arena *arena, const char *title, const char *text)
{
    if (!*text)
        return;
    fprintf(out, "\n%s\n", title);
    do {
        size_t length = strcspn(text, "\n");
        fprintf(out, "  %s\n", view_text_visible(arena, text, length));
        text += length + (text[length] == '\n');
    } while (*text);
}

void view_policy_check(FILE *out, const struct terminal *terminal, struct forge_arena *arena,
                       const Forge__V1__CheckPoliciesRequest *request, const Forge__V1__CheckPoliciesResponse *answer)
{
    print_decision(out, terminal, arena, answer);
    for (size_t i = 0; i < answer->n_findings; i++)
        print_finding(out, terminal, arena, request, answer, answer->findings[i]);
    if (answer->findings_truncated)
        fputs("\nThere were more findings than are told.\n", out);
    print_masked(out, arena, "Masked input:", answer->masked_input);
    print_masked(out, arena, "Masked output:", answer->masked_output);
}
