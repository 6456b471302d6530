/* PromptService over TLS: prompts that refer to each other, checked when a version is made and resolved when it is rendered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREATE "PromptService/CreatePrompt"
#define ADD "PromptService/CreatePromptVersion"
#define RENDER "PromptService/RenderPrompt"

enum { WRITERS = 3, ROUNDS = 10, SUBJECTS = 60, REFERENCES_MAX = 64 };

static struct service_tenant alpha, beta;

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static void make(const char *name, const char *content, char out_id[37])
{
    service_prompt_make(alpha.admin, alpha.project_id, name, content, out_id);
}

static forge_code create(const char *name, const char *content)
{
    return service_call(alpha.admin, CREATE, NULL, "{'project_id': '%s', 'name': '%s', 'content': '%s'}", alpha.project_id, name, content);
}

static forge_code add(const char *id, const char *content, bool make_current)
{
    return service_call(alpha.admin, ADD, NULL, "{'prompt_id': '%s', 'content': '%s', 'make_current': %s}", id, content,
                        make_current ? "true" : "false");
}

static forge_code set_label(const char *id, const char *label, int version)
{
    return service_call(alpha.admin, "PromptService/SetLabel", NULL, "{'prompt_id': '%s', 'label': '%s', 'version': %d}", id, label,
                        version);
}

static forge_code render(const char *id)
{
    return service_call(alpha.admin, RENDER, NULL, "{'prompt': {'id': '%s'}}", id);
}

static void renders(const char *id, const char *expected)
{
    char content[1024];
    service_ok(render(id));
    service_reply_text("content", content, sizeof content);
    assert_string_equal(content, expected);
}

static void fails_with_reason(forge_code rc, const char *reason, const char *part)
{
    assert_int_equal(rc, FORGE_FAILED_PRECONDITION);
    assert_string_equal(service_error.reason, reason);
    service_fails(rc, FORGE_FAILED_PRECONDITION, part);
}

/* Nothing is left of a prompt of this name. */
static void assert_not_made(const char *name)
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM prompts WHERE name = '%s'", name);
    assert_string_equal(service_query(sql), "0");
}

/* "position>version@label ..." of what is stored for a version. */
static const char *stored(const char *id, int version)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT string_agg(r.position || '>' || p.name || '@' || COALESCE(r.referenced_version::text, r.referenced_label, ''), ' '"
             " ORDER BY r.position) FROM prompt_references r JOIN prompts p ON p.id = r.referenced_prompt_id"
             " WHERE r.prompt_id = '%s' AND r.version = %d",
             id, version);
    return service_query(sql);
}

/* --- what references stand for --- */

static void test_references_are_resolved(void **state)
{
    (void)state;
    char rules[37], tone[37], review[37];
    make("house rules", "Rules for {{team}}.", rules);
    service_ok(add(rules, "Stricter rules for {{team}}.", false));
    make("tone", "Be kind.", tone);
    service_ok(add(tone, "Be brief.", true));
    service_ok(set_label(rules, "production", 2));
    service_ok(service_call(alpha.admin, CREATE, NULL,
                            "{'project_id': '%s', 'name': 'review', 'system_prompt': '{{> tone}}{{> tone@1}}',"
                            " 'content': '{{> house rules}} {{> house rules@production}} {{x}} {{> house rules}}'}",
                            alpha.project_id));
    service_reply_text("id", review, sizeof review);
    assert_string_equal(stored(review, 1), "0>house rules@ 1>house rules@production 2>tone@ 3>tone@1");
    service_shows("'content':'{{> house rules}} {{> house rules@production}} {{x}} {{> house rules}}'");
    service_ok(service_call(alpha.admin, "PromptService/GetPrompt", NULL, "{'id': '%s'}", review));
    service_shows("'content':'{{> house rules}} {{> house rules@production}} {{x}} {{> house rules}}'",
                  "'system_prompt':'{{> tone}}{{> tone@1}}'");
    service_ok(service_call(
        alpha.admin, RENDER, NULL,
        "{'prompt': {'id': '%s'}, 'variables': [{'name': 'team', 'value': 'A {{> tone}}'}, {'name': 'x', 'value': ''}]}", review));
    service_shows("'content':'Rules for A {{> tone}}. Stricter rules for A {{> tone}}.  Rules for A {{> tone}}.'",
                  "'system_prompt':'Be brief.Be kind.'", "'references'", "'name':'house rules'", "'version':1", "'name':'house rules'",
                  "'version':2", "'label':'production'", "'name':'tone'", "'version':2", "'name':'tone'", "'version':1");
}

static void test_messages_hold_references(void **state)
{
    (void)state;
    char persona[37], chat[37];
    make("persona", "You are {{who}}.", persona);
    service_ok(service_call(alpha.admin, CREATE, NULL,
                            "{'project_id': '%s', 'name': 'chat', 'messages': [{'role': 'system', 'content': '{{> persona}}'},"
                            " {'role': 'user', 'content': 'Hello! {{>persona@1}}'}]}",
                            alpha.project_id));
    service_reply_text("id", chat, sizeof chat);
    service_ok(service_call(alpha.admin, RENDER, NULL, "{'prompt': {'id': '%s'}, 'variables': [{'name': 'who', 'value': 'Ada'}]}", chat));
    service_shows("'content':'You are Ada.'", "'content':'Hello! You are Ada.'", "'name':'persona'");
    /* A chat is no text that could stand in another. */
    service_fails(create("of a chat", "{{> chat}}"), FORGE_FAILED_PRECONDITION,
                  "content: version 1 of prompt \"chat\" is a chat, only texts can be referred to");
    assert_not_made("of a chat");
    /* One that becomes a chat later is found when it is rendered. */
    char user[37];
    make("of a persona", "{{> persona}}", user);
    service_ok(service_call(alpha.admin, ADD, NULL,
                            "{'prompt_id': '%s', 'messages': [{'role': 'user', 'content': 'x'}], 'make_current': true}", persona));
    service_fails(render(user), FORGE_FAILED_PRECONDITION, "prompt \"of a persona\" version 1: version 2 of prompt \"persona\" is a chat");
}

static void test_variables_are_joined(void **state)
{
    (void)state;
    char inner[37], outer[37];
    service_ok(
        service_call(alpha.admin, CREATE, NULL,
                     "{'project_id': '%s', 'name': 'inner', 'content': '{{a}} {{b}} {{c}}', 'variables': [{'name': 'a'}, {'name': 'b'},"
                     " {'name': 'c', 'default_value': 'see'}]}",
                     alpha.project_id));
    service_reply_text("id", inner, sizeof inner);
    make("outer", "{{> inner}} {{b}} {{d}}", outer);
    service_violates(render(outer), "variables.b", "is missing", "variables.d", "is missing", "variables.a", "is missing");
    service_violates(service_call(alpha.admin, RENDER, NULL,
                                  "{'prompt': {'id': '%s'}, 'variables': [{'name': 'a', 'value': '1'}, {'name': 'b', 'value': '2'},"
                                  " {'name': 'd', 'value': '4'}, {'name': 'e', 'value': '5'}]}",
                                  outer),
                     "variables.e", "this prompt has no such variable");
    service_ok(service_call(alpha.admin, RENDER, NULL,
                            "{'prompt': {'id': '%s'}, 'variables': [{'name': 'a', 'value': '1'}, {'name': 'b', 'value': '2'},"
                            " {'name': 'd', 'value': '4'}]}",
                            outer));
    service_shows("'content':'1 2 see 2 4'");
}

static void test_a_split_goes_by_subject(void **state)
{
    (void)state;
    char part[37], whole[37], chosen[64], content[64];
    int seen[3] = {0};
    make("split part", "one", part);
    service_ok(add(part, "two", false));
    service_ok(
        service_call(alpha.admin, "PromptService/SetLabel", NULL,
                     "{'prompt_id': '%s', 'label': 'beta', 'split': {'targets': [{'version': 1, 'weight': 30}, {'version': 2, 'weight':"
                     " 70}]}}",
                     part));
    make("split whole", "{{> split part@beta}}", whole);
    for (int i = 0; i < SUBJECTS; i++) {
        service_ok(
            service_call(alpha.admin, "PromptService/GetPrompt", NULL, "{'id': '%s', 'label': 'beta', 'subject': 'user %d'}", part, i));
        service_reply_text("content", chosen, sizeof chosen);
        service_ok(service_call(alpha.admin, RENDER, NULL, "{'prompt': {'id': '%s', 'subject': 'user %d'}}", whole, i));
        service_reply_text("content", content, sizeof content);
        assert_string_equal(content, chosen);
        seen[strcmp(content, "one") == 0 ? 1 : 2]++;
    }
    assert_true(seen[1] > 0 && seen[2] > 0);
}

static void test_references_as_of_a_time(void **state)
{
    (void)state;
    char part[37], whole[37], then[64];
    make("then part", "old", part);
    service_ok(set_label(part, "live", 1));
    make("then whole", "{{> then part}} {{> then part@live}} {{> then part@1}}", whole);
    snprintf(then, sizeof then, "%s",
             service_query("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"));
    service_ok(add(part, "new", true));
    service_ok(set_label(part, "live", 2));
    renders(whole, "new new old");
    service_ok(service_call(alpha.admin, RENDER, NULL, "{'prompt': {'id': '%s', 'as_of': '%s'}}", whole, then));
    service_shows("'content':'old old old'");
}

static void test_a_renamed_prompt_is_still_meant(void **state)
{
    (void)state;
    char part[37], whole[37], other[37];
    make("first name", "kept", part);
    make("names it", "{{> first name}}", whole);
    service_ok(service_call(alpha.admin, "PromptService/UpdatePrompt", NULL, "{'id': '%s', 'name': 'second name'}", part));
    make("first name", "another", other);
    renders(whole, "kept");
    service_shows("'name':'second name'");
    service_ok(add(whole, "{{> first name}}!", true));
    renders(whole, "another!");
}

/* --- depth and circles --- */

static void test_depth_five_and_no_more(void **state)
{
    (void)state;
    char id[37], name[32], content[64];
    make("level 0", "end", id);
    for (int i = 1; i <= 5; i++) {
        snprintf(name, sizeof name, "level %d", i);
        snprintf(content, sizeof content, "%d {{> level %d}}", i, i - 1);
        make(name, content, id);
    }
    renders(id, "5 4 3 2 1 end");
    service_shows("'name':'level 4'", "'name':'level 3'", "'name':'level 2'", "'name':'level 1'", "'name':'level 0'");
    fails_with_reason(create("level 6", "{{> level 0}} {{> level 5}}"), "REFERENCE_DEPTH",
                      "content: the references are deeper than 5: \"level 5\" -> \"level 4\" -> \"level 3\" -> \"level 2\"");
    assert_not_made("level 6");
    /* The longest way counts, not the shortest. */
    make("short cut", "{{> level 0}} {{> level 4}}", id);
    renders(id, "end 4 3 2 1 end");
    fails_with_reason(create("long way", "{{> level 0}} {{> short cut}} {{> level 5}}"), "REFERENCE_DEPTH", "deeper than 5");
    /* What makes it deeper afterwards is found when it is rendered. */
    char top[37], part[37];
    make("grows", "small", part);
    make("grown", "{{> grows}}", top);
    service_ok(add(part, "{{> level 3}}", true));
    renders(top, "3 2 1 end");
    service_ok(add(part, "{{> level 4}}", false));
    service_ok(service_call(alpha.admin, "PromptService/SetCurrentVersion", NULL, "{'prompt_id': '%s', 'version': 3}", part));
    fails_with_reason(render(top), "REFERENCE_DEPTH",
                      "prompt \"grown\" version 1: the references are deeper than 5: \"grown\" -> \"grows\" -> \"level 4\"");
    renders(part, "4 3 2 1 end");
}

static void test_a_prompt_that_leads_back_to_itself(void **state)
{
    (void)state;
    char a[37], b[37], c[37];
    fails_with_reason(create("itself", "x {{> itself}}"), "REFERENCE_CYCLE",
                      "content: the references go in a circle: \"itself\" -> \"itself\"");
    assert_not_made("itself");
    make("a", "plain", a);
    fails_with_reason(add(a, "{{> a}}", false), "REFERENCE_CYCLE", "content: the references go in a circle: \"a\" -> \"a\"");
    fails_with_reason(add(a, "{{> a@1}}", false), "REFERENCE_CYCLE", "\"a\" -> \"a\"");
    make("b", "{{> a}}", b);
    fails_with_reason(service_call(alpha.admin, ADD, NULL, "{'prompt_id': '%s', 'content': 'x', 'system_prompt': '{{> b}}'}", a),
                      "REFERENCE_CYCLE", "system_prompt: the references go in a circle: \"a\" -> \"b\" -> \"a\"");
    make("c", "{{> b}}", c);
    fails_with_reason(add(a, "{{> c@1}}", true), "REFERENCE_CYCLE",
                      "content: the references go in a circle: \"a\" -> \"c\" -> \"b\" -> \"a\"");
    assert_string_equal(stored(a, 2), "");
    renders(c, "plain");
}

/* A ring of prompts: version 2 of each refers to what label live of the next one points at, version 1 to nothing. */
static void ring_make(const char *name, int count, char ids[][37])
{
    char text[64];
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%s %d", name, i);
        make(text, text, ids[i]);
        service_ok(set_label(ids[i], "live", 1));
    }
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "{{> %s %d@live}}", name, (i + 1) % count);
        service_ok(add(ids[i], text, true));
    }
}

static void test_a_circle_that_moves_make(void **state)
{
    (void)state;
    char two[2][37], three[3][37];
    ring_make("two", 2, two);
    renders(two[0], "two 1");
    service_ok(set_label(two[1], "live", 2));
    renders(two[0], "two 0");
    service_ok(set_label(two[0], "live", 2));
    fails_with_reason(render(two[0]), "REFERENCE_CYCLE",
                      "prompt \"two 0\" version 2: the references go in a circle: \"two 0\" -> \"two 1\" -> \"two 0\"");
    service_ok(service_call(alpha.admin, "PromptService/SetLabel", NULL, "{'prompt_id': '%s', 'label': 'live', 'previous': true}", two[0]));
    renders(two[0], "two 0");
    ring_make("three", 3, three);
    for (int i = 0; i < 3; i++)
        service_ok(set_label(three[i], "live", 2));
    fails_with_reason(render(three[1]), "REFERENCE_CYCLE", "circle: \"three 1\" -> \"three 2\" -> \"three 0\" -> \"three 1\"");
    /* Also where the circle is below, and for whoever comes new. */
    fails_with_reason(create("above", "{{> three 0@live}}"), "REFERENCE_CYCLE",
                      "content: the references go in a circle: \"three 0\" -> \"three 1\" -> \"three 2\" -> \"three 0\"");
    assert_not_made("above");
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    char part[37], other[37];
    make("there", "x", part);
    service_fails(create("lost", "{{x}} {{> nowhere}}"), FORGE_NOT_FOUND, "content: {{> nowhere}} names no prompt of this project");
    service_fails(create("lost", "{{> there@2}}"), FORGE_NOT_FOUND, "content: version 2 of prompt \"there\" not found");
    service_fails(create("lost", "{{> there@live}}"), FORGE_NOT_FOUND, "content: label \"live\" of prompt \"there\" not found");
    service_fails(service_call(alpha.admin, CREATE, NULL,
                               "{'project_id': '%s', 'name': 'lost', 'messages': [{'role': 'user', 'content': 'x'},"
                               " {'role': 'user', 'content': '{{> nowhere@3}}'}]}",
                               alpha.project_id),
                  FORGE_NOT_FOUND, "messages[1].content: {{> nowhere@3}} names no prompt of this project");
    assert_not_made("lost");
    service_fails(add(part, "{{> nowhere}}", true), FORGE_NOT_FOUND, "content: {{> nowhere}} names no prompt");
    service_fails(service_call(alpha.admin, ADD, NULL, "{'prompt_id': '%s', 'content': '{{> there}}'}", service_request_id()),
                  FORGE_NOT_FOUND, "prompt");
    service_violates(create("lost", "{{> there@0}}"), "content", "line 1, column 1: @ must stand between");
    /* Prompts of another tenant or another project are not there. */
    service_prompt_make(beta.admin, beta.project_id, "foreign", "secret", other);
    service_fails(create("lost", "{{> foreign}}"), FORGE_NOT_FOUND, "content: {{> foreign}} names no prompt of this project");
    char project[37];
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'second'}"));
    service_reply_text("id", project, sizeof project);
    service_prompt_make(alpha.admin, project, "elsewhere", "secret", other);
    service_fails(create("lost", "{{> elsewhere}}"), FORGE_NOT_FOUND, "content: {{> elsewhere}} names no prompt of this project");
    assert_not_made("lost");
}

/* --- bounds --- */

/* A prompt "<name>" with versions 1 to 64, and in content references to all of them. */
static void pool_make(const char *name, char *content, size_t size)
{
    char id[37], text[32];
    size_t length = 0;
    make(name, "x 1", id);
    for (int i = 1; i <= REFERENCES_MAX; i++) {
        snprintf(text, sizeof text, "x %d", i);
        service_ok(add(id, text, false));
        length += (size_t)snprintf(content + length, size - length, "{{> %s@%d}}", name, i);
    }
}

static void test_numbers_of_references(void **state)
{
    (void)state;
    enum { POOLS = 4 }; /* each with a prompt that refers to all of its 64 versions: 260 in all */
    static char content[REFERENCES_MAX * 32 + 64];
    char name[32], id[37];
    for (int i = 0; i < POOLS; i++) {
        snprintf(name, sizeof name, "pool %d", i);
        pool_make(name, content, sizeof content);
        snprintf(name, sizeof name, "all of %d", i);
        make(name, content, id);
    }
    strcat(content, "{{> pool 0}}");
    service_violates(create("too many", content), "content", "more than 64 different references");
    service_ok(create("256 and less", "{{> all of 0}} {{> all of 1}} {{> all of 2}}"));
    service_fails(create("too many", "{{> all of 0}} {{> all of 1}} {{> all of 2}} {{> all of 3}}"), FORGE_RESOURCE_EXHAUSTED,
                  "the references lead to more than 256 versions");
    assert_not_made("too many");
}

/* Each level holds the one below 400 times: ways multiply, work must not. */
static void test_a_text_that_would_explode(void **state)
{
    (void)state;
    enum { TIMES = 400 };
    char id[37], name[32], reference[64];
    make("boom 0", "{{x}}", id);
    for (int i = 1; i <= 5; i++) {
        snprintf(name, sizeof name, "boom %d", i);
        snprintf(reference, sizeof reference, "{{> boom %d}}", i - 1);
        make(name, service_repeat(reference, TIMES), id);
    }
    service_ok(service_call(alpha.admin, RENDER, NULL, "{'prompt': {'id': '%s'}, 'variables': [{'name': 'x', 'value': ''}]}", id));
    service_fails(service_call(alpha.admin, RENDER, NULL, "{'prompt': {'id': '%s'}, 'variables': [{'name': 'x', 'value': 'y'}]}", id),
                  FORGE_RESOURCE_EXHAUSTED, "the rendered prompt is over 1048576 bytes");
}

/* As many different variables as can be: 256 in each of 257 versions, and a value for none. */
static void test_variables_that_are_many(void **state)
{
    (void)state;
    enum { PARTS = 4, LEAVES = 63, VARIABLES = 256 };
    char id[37], name[64], content[8192];
    for (int i = 0; i <= PARTS * LEAVES; i++) {
        size_t length = 0;
        for (int j = 0; j < VARIABLES; j++)
            length += (size_t)snprintf(content + length, sizeof content - length, "{{v_%d_%d}}", i, j);
        snprintf(name, sizeof name, "leaf %d", i);
        make(name, content, id);
    }
    content[0] = '\0';
    for (int i = 0; i < PARTS; i++) {
        char part[8192] = "";
        for (int j = 0; j < LEAVES; j++)
            snprintf(part + strlen(part), sizeof part - strlen(part), "{{> leaf %d}}", i * LEAVES + j);
        snprintf(name, sizeof name, "leaves %d", i);
        make(name, part, id);
        snprintf(content + strlen(content), sizeof content - strlen(content), "{{> %s}}", name);
    }
    make("tree", content, id);
    service_fails(render(id), FORGE_INVALID_ARGUMENT, "variables.v_0_0: is missing (and 64511 more)");
}

static void test_bytes_that_are_referred_to(void **state)
{
    (void)state;
    char id[37], name[32];
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "large %d", i);
        make(name, service_repeat("0123456789abcdef", 1 << 16), id);
    }
    service_fails(create("whale", "{{> large 0}}{{> large 1}}{{> large 2}}{{> large 3}}{{> large 4}}"), FORGE_RESOURCE_EXHAUSTED,
                  "the references lead to more than 4194304 bytes");
    /* What several levels refer to counts once. */
    make("shared 4", "{{> large 0}}", id);
    for (int i = 3; i >= 0; i--) {
        char content[64];
        snprintf(name, sizeof name, "shared %d", i);
        snprintf(content, sizeof content, "{{> large 0}}{{> shared %d}}", i + 1);
        make(name, content, id);
    }
    make("one large", "{{> large 0}}", id);
    service_ok(render(id));
    service_ok(add(id, "{{> large 0}}!", true));
    service_fails(render(id), FORGE_RESOURCE_EXHAUSTED, "the rendered prompt is over 1048576 bytes");
}

/* --- who else is at it --- */

static void test_replay(void **state)
{
    (void)state;
    char part[37], id[37], again[37];
    const char *request_id = service_request_id();
    make("replayed part", "x", part);
    service_ok(service_call(alpha.admin, CREATE, request_id, "{'project_id': '%s', 'name': 'replayed', 'content': '{{> replayed part}}'}",
                            alpha.project_id));
    service_reply_text("id", id, sizeof id);
    service_ok(service_call(alpha.admin, CREATE, request_id, "{'project_id': '%s', 'name': 'replayed', 'content': '{{> replayed part}}'}",
                            alpha.project_id));
    service_reply_text("id", again, sizeof again);
    assert_true(service_reply_is_stored());
    assert_string_equal(id, again);
    assert_string_equal(stored(id, 1), "0>replayed part@");
    /* Content that is there already adds nothing. */
    service_ok(add(id, "{{> replayed part}}", false));
    service_shows("'version':1", "'existing':true");
    assert_string_equal(stored(id, 1), "0>replayed part@");
}

static void test_what_is_referred_to_stays(void **state)
{
    (void)state;
    char part[37], whole[37];
    make("used part", "x", part);
    service_ok(set_label(part, "live", 1));
    make("user of it", "{{> used part@live}}", whole);
    fails_with_reason(service_call(alpha.admin, "PromptService/DeletePrompt", NULL, "{'id': '%s'}", part), "IN_USE",
                      "another prompt refers");
    fails_with_reason(service_call(alpha.admin, "PromptService/DeleteLabel", NULL, "{'prompt_id': '%s', 'label': 'live'}", part), "IN_USE",
                      "refers to label");
    service_ok(service_call(alpha.admin, "PromptService/DeletePrompt", NULL, "{'id': '%s'}", whole));
    service_ok(service_call(alpha.admin, "PromptService/DeleteLabel", NULL, "{'prompt_id': '%s', 'label': 'live'}", part));
    service_ok(service_call(alpha.admin, "PromptService/DeletePrompt", NULL, "{'id': '%s'}", part));
}

/* --- concurrent writers --- */

struct creation {
    pthread_t thread;
    pthread_barrier_t *barrier;
    const char *prompt_id; /* NULL: a new prompt named "late" */
    const char *content;
    forge_code rc;
    char reason[FORGE_ERROR_REASON_MAX], message[FORGE_ERROR_MESSAGE_MAX];
};

static void *creation_main(void *argument)
{
    struct creation *creation = argument;
    struct forge_error error = {0};
    if (creation->barrier != NULL)
        pthread_barrier_wait(creation->barrier);
    if (creation->prompt_id != NULL) {
        Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
        Forge__V1__PromptVersion *version = NULL;
        request.prompt_id = TEXT(creation->prompt_id);
        request.content = TEXT(creation->content);
        request.make_current = 1;
        creation->rc = forge_prompt_create_version(alpha.admin, NULL, &request, &version, &error);
        forge__v1__prompt_version__free_unpacked(version, NULL);
    } else {
        Forge__V1__CreatePromptRequest request = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
        Forge__V1__Prompt *prompt = NULL;
        request.project_id = alpha.project_id;
        request.name = TEXT("late");
        request.content = TEXT(creation->content);
        creation->rc = forge_prompt_create(alpha.admin, NULL, &request, &prompt, &error);
        forge__v1__prompt__free_unpacked(prompt, NULL);
    }
    snprintf(creation->reason, sizeof creation->reason, "%s", error.reason);
    snprintf(creation->message, sizeof creation->message, "%s", error.message);
    forge_error_free(&error);
    return NULL;
}

/* Writers who close a ring at once never lock each other out: each gets its version or is told of the circle. Should all of them have
 * passed, rendering tells. */
static void test_writers_of_a_ring(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        static struct creation creations[WRITERS];
        static char content[WRITERS][64], ids[WRITERS][37];
        pthread_barrier_t barrier;
        int made = 0;
        assert_int_equal(pthread_barrier_init(&barrier, NULL, WRITERS), 0);
        for (int i = 0; i < WRITERS; i++) {
            char name[64];
            snprintf(name, sizeof name, "round %d of %d", round, i);
            make(name, "end", ids[i]);
            snprintf(content[i], sizeof content[i], "{{> round %d of %d}}", round, (i + 1) % WRITERS);
        }
        for (int i = 0; i < WRITERS; i++) {
            creations[i] = (struct creation){.barrier = &barrier, .prompt_id = ids[i], .content = content[i]};
            assert_int_equal(pthread_create(&creations[i].thread, NULL, creation_main, &creations[i]), 0);
        }
        for (int i = 0; i < WRITERS; i++) {
            assert_int_equal(pthread_join(creations[i].thread, NULL), 0);
            if (creations[i].rc != FORGE_OK)
                assert_string_equal(creations[i].reason, "REFERENCE_CYCLE");
            made += creations[i].rc == FORGE_OK;
        }
        pthread_barrier_destroy(&barrier);
        assert_true(made >= WRITERS - 1);
        for (int i = 0; i < WRITERS; i++) {
            if (made < WRITERS)
                renders(ids[i], "end");
            else
                fails_with_reason(render(ids[i]), "REFERENCE_CYCLE", "circle");
        }
    }
}

/* The reference waits for whoever holds the prompt it names, and then sees what that one has done. */
static void late(const char *part, const char *statement, const char *content, const char *message)
{
    char sql[256];
    struct creation creation = {.content = content};
    snprintf(sql, sizeof sql, "SELECT id FROM prompts WHERE id = '%s' FOR UPDATE; DELETE FROM %s = '%s'", part, statement, part);
    struct service_lock *lock = service_lock_take(sql);
    assert_int_equal(pthread_create(&creation.thread, NULL, creation_main, &creation), 0);
    service_lock_wait(lock, 1);
    service_lock_release(lock);
    assert_int_equal(pthread_join(creation.thread, NULL), 0);
    assert_int_equal(creation.rc, FORGE_NOT_FOUND);
    assert_string_equal(creation.message, message);
    assert_not_made("late");
}

static void test_a_label_or_prompt_that_is_being_deleted(void **state)
{
    (void)state;
    char part[37];
    make("vanishing", "x", part);
    service_ok(set_label(part, "live", 1));
    late(part, "labels WHERE prompt_id", "{{> vanishing@live}}", "content: label \"live\" of prompt \"vanishing\" not found");
    late(part, "prompts WHERE id", "{{> vanishing}}", "a prompt that the references name was just deleted");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references_are_resolved),
        cmocka_unit_test(test_messages_hold_references),
        cmocka_unit_test(test_variables_are_joined),
        cmocka_unit_test(test_a_split_goes_by_subject),
        cmocka_unit_test(test_references_as_of_a_time),
        cmocka_unit_test(test_a_renamed_prompt_is_still_meant),
        cmocka_unit_test(test_depth_five_and_no_more),
        cmocka_unit_test(test_a_prompt_that_leads_back_to_itself),
        cmocka_unit_test(test_a_circle_that_moves_make),
        cmocka_unit_test(test_what_is_not_there),
        cmocka_unit_test(test_numbers_of_references),
        cmocka_unit_test(test_a_text_that_would_explode),
        cmocka_unit_test(test_variables_that_are_many),
        cmocka_unit_test(test_bytes_that_are_referred_to),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_what_is_referred_to_stays),
        cmocka_unit_test(test_writers_of_a_ring),
        cmocka_unit_test(test_a_label_or_prompt_that_is_being_deleted),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
