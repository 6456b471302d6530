/* forgectl against a real forged with a real PostgreSQL: what people see. */
#include "forgectl_test_support.h"

#include <termios.h>

static int set_up(void **state)
{
    forgectl_open_world(state);
    forgectl_set("FORGE_PROJECT", world.home.project_id);
    return 0;
}

/* ---- credentials ---- */

static void test_login_whoami_logout(void **state)
{
    forgectl_set("FORGE_TOKEN", NULL);
    struct child_output output;
    forgectl_shell(&output, "printf '%s\\n' | forgectl login %s --password-stdin", world.home.password, world.home.email);
    if (output.exit_code)
        fail_msg("%s", output.err);
    assert_non_null(strstr(output.err, "Logged in as "));
    child_output_done(&output);
    expect_output(0, "600\n", "", "stat -c %%a .config/promptforge/contexts.yaml");
    char name[128];
    snprintf(name, sizeof name, "%s\n", world.home.email);
    expect_output(0, name, "", "forgectl whoami -o name");
    /* The context holds server and authority too. */
    expect_output(0, name, "", "env -u FORGE_SERVER -u FORGE_CA $(command -v forgectl) whoami -o name");
    expect_output(0, "", "", "forgectl logout");
    expect_output(80, "", NULL, "forgectl whoami");
    /* The password of a terminal-less login comes from standard input without the flag as well. */
    expect_output(0, "", NULL, "printf '%s\\n' | forgectl login %s --context other", world.home.password, world.home.email);
    expect_output(0, "default\nother\n", "", "forgectl context list -o name");
    expect_output(0, "", "", "forgectl logout --all");
    forgectl_set("FORGE_TOKEN", world.home.admin_key); /* the world's session has ended as well */
}

static void test_login_with_a_wrong_password(void **state)
{
    struct child_output output;
    forgectl_shell(&output, "printf 'not the password\\n' | forgectl login %s --password-stdin", world.home.email);
    assert_int_equal(output.exit_code, 80);
    assert_non_null(strstr(output.err, "forgectl: UNAUTHENTICATED: "));
    child_output_done(&output);
}

/* The prompt comes before the echo ends; what is typed in between is thrown away, so wait until the terminal is silent. */
static void type_password(int terminal, const char *seen)
{
    static const char prompt[] = "Password: ";
    struct termios settings;
    char typed[80];
    size_t length = strlen(seen);
    if (length < sizeof prompt - 1 || strcmp(seen + length - (sizeof prompt - 1), prompt) != 0)
        return;
    while (tcgetattr(terminal, &settings) == 0 && (settings.c_lflag & ECHO))
        world_sleep_ms(1);
    snprintf(typed, sizeof typed, "%s\n", world.home.password);
    assert_int_equal(write(terminal, typed, strlen(typed)), strlen(typed));
}

/* A terminal of its own for forgectl: the password is typed when it is asked for, and must not be seen. */
static void test_login_asks_without_echo(void **state)
{
    const char *const line[] = {"forgectl", "login", world.home.email, "--context", "terminal", NULL};
    char seen[4096];
    if (forgectl_on_terminal(line, seen, sizeof seen, type_password) != 0)
        fail_msg("%s", seen);
    assert_non_null(strstr(seen, "Logged in as "));
    assert_null(strstr(seen, world.home.password));
    expect_output(0, "", "", "FORGE_TOKEN= forgectl logout --context terminal");
}

static void test_keys(void **state)
{
    struct child_output output;
    /* A key is created for a user: that takes a session. */
    forgectl_shell(&output, "printf '%s\\n' | forgectl login %s --password-stdin", world.home.password, world.home.email);
    assert_int_equal(output.exit_code, 0);
    child_output_done(&output);
    forgectl_set("FORGE_TOKEN", NULL);
    forgectl_shell(&output, "forgectl key create ci --scope read --expires-days 1 -o json");
    if (output.exit_code)
        fail_msg("%s", output.err);
    char *id = strstr(output.out, "\"id\": \""), *token = strstr(output.out, "\"token\": \"");
    assert_non_null(id);
    assert_non_null(token);
    char key_id[40], key_token[WORLD_TOKEN_SIZE];
    snprintf(key_id, sizeof key_id, "%.36s", id + 7);
    snprintf(key_token, sizeof key_token, "%.75s", token + 10);
    child_output_done(&output);
    expect_output(0, "ci\n", "", "FORGE_TOKEN=%s forgectl whoami -o name", key_token);
    expect_output(71, "", NULL, "FORGE_TOKEN=%s forgectl project create forbidden", key_token);
    expect_output(0, NULL, "", "forgectl key revoke %s", key_id);
    /* Every server refuses it within a second; this one at once. */
    expect_output(80, "", NULL, "FORGE_TOKEN=%s forgectl whoami -o name", key_token);
    expect_output(0, "", "", "forgectl logout");
    forgectl_set("FORGE_TOKEN", world.home.admin_key);
}

/* ---- organization and projects ---- */

static void test_organization_create(void **state)
{
    expect_output(0,
                  "Id           <id>\n"
                  "Slug         acme-gmbh\n"
                  "Name         Acme GmbH\n"
                  "Description  makes everything\n"
                  "Created      <time>\n"
                  "Etag         1\n",
                  "",
                  "printf 'a long enough password\\n' | FORGE_OPERATOR_TOKEN=%s forgectl organization create 'Acme GmbH' "
                  "--admin-email ada@acme.example --description 'makes everything' --password-stdin",
                  world.operator_token);
    expect_output(70, "", NULL,
                  "printf 'a long enough password\\n' | FORGE_OPERATOR_TOKEN=%s forgectl organization create 'Acme GmbH' "
                  "--admin-email eve@acme.example --password-stdin",
                  world.operator_token);
    expect_output(0, "Organization home\n", "", "forgectl organization get -o json | sed -n 's/.*\"name\": \"\\(.*\\)\".*/\\1/p'");
}

static void test_projects(void **state)
{
    expect_output(0,
                  "Id           <id>\n"
                  "Name         Wei\xc3\x9f \xe6\xbc\xa2\xe5\xad\x97\n"
                  "Description  wide names\n"
                  "Created      <time>\n"
                  "Etag         1\n",
                  "", "forgectl project create 'Wei\xc3\x9f \xe6\xbc\xa2\xe5\xad\x97' --description 'wide names'");
    expect_output(0, "<id>\n", "", "forgectl project create 'Weit' -o name");
    /* Columns are aligned by what characters take on a terminal: two for each of the ideographs. */
    expect_output(
        0,
        "NAME       ID    CREATED  DESCRIPTION\n"
        "Weit       <id>  <time>   \n"
        "Wei\xc3\x9f \xe6\xbc\xa2\xe5\xad\x97  <id>  <time>   wide names\n",
        "", "forgectl project list --prefix Wei | sed 's/  *CREATED/    CREATED/; s/ID  */ID    /; s/CREATED  */CREATED  /; s/Z  */Z   /'");
    expect_output(0, "Weit\n", NULL, "forgectl project list --prefix Wei --page-size 1 -o name");
    expect_output(0, "Weit\n", "", "forgectl project get Weit -o json | sed -n 's/.*\"name\": \"\\(.*\\)\".*/\\1/p'");
    expect_output(69, "", NULL, "forgectl project get missing");
    expect_output(70, "", NULL, "forgectl project create Weit");
    expect_output(67, "", NULL, "forgectl project create ''");
}

/* ---- prompts ---- */

static void test_prompts(void **state)
{
    expect_output(0, "<id>\n", "",
                  "printf 'Review this {{language}} change:\\n{{diff}}\\n' | forgectl prompt create review -f - "
                  "--system 'You are strict.' -m 'first' -o name");
    expect_output(0,
                  "Id               <id>\n"
                  "Name             review\n"
                  "Project          <id>\n"
                  "Version          1\n"
                  "Current version  1\n"
                  "Latest version   1\n"
                  "Format           text\n"
                  "Message          first\n"
                  "Created          <time>\n"
                  "Version created  <time>\n"
                  "--- system\nYou are strict.\n"
                  "--- content\nReview this {{language}} change:\n{{diff}}\n",
                  "", "forgectl prompt get review");
    expect_output(0,
                  "--- system\nYou are strict.\n"
                  "--- content\nReview this C change:\n+ {{not a variable}}\n",
                  "", "printf '+ {{not a variable}}' | forgectl prompt render review --var language=C --var diff=@-");
    expect_output(0, "review\n", "", "forgectl prompt list --prefix rev -o name");
    expect_output(0, "2\n", "",
                  "forgectl call CreatePromptVersion -d \"{\\\"prompt_id\\\": \\\"$(forgectl prompt get review -o name)\\\", "
                  "\\\"content\\\": \\\"short\\\", \\\"make_current\\\": true}\" | sed -n 's/.*\"version\": \\([0-9]*\\).*/\\1/p'");
    expect_output(0, "short\n", "", "forgectl prompt render review");
    expect_output(67, "", NULL, "forgectl prompt render review --version 1");
    expect_output(69, "", NULL, "forgectl prompt get review --version 3");
    expect_output(69, "", NULL, "forgectl prompt get missing");
    expect_output(70, "", NULL, "forgectl prompt create review --content again");
}

static void test_errors_name_every_field(void **state)
{
    expect_output(67, "",
                  "forgectl: INVALID_ARGUMENT: project_id: must be a UUID (and 1 more)\n"
                  "  project_id: must be a UUID\n"
                  "  name: must be 1 to 255 printable characters\n",
                  "forgectl call GetPrompt -d '{\"project_id\": \"x\", \"name\": \"\\u0007\"}'");
    expect_output(67, "",
                  "forgectl: INVALID_ARGUMENT: variables.diff: is missing (and 1 more)\n"
                  "  variables.diff: is missing\n"
                  "  variables.language: is missing\n",
                  "forgectl prompt render review --version 1");
}

static void test_formats(void **state)
{
    expect_output(0, "status: SERVING_STATUS_SERVING\nserver_time: \"<time>\"\n", "", "forgectl health -o yaml");
    expect_output(0, "{\n  \"status\": \"SERVING_STATUS_SERVING\",\n  \"server_time\": \"<time>\"\n}\n", "", "forgectl health -o json");
    expect_output(0, "serving\n", "", "forgectl health -o name");
    expect_output(0, "content: |-\n  two\n  lines: \"yes\"\n", "",
                  "forgectl prompt create yaml --content 'two\nlines: \"yes\"' -o name >/dev/null && "
                  "forgectl prompt get yaml -o yaml | sed -n '/^content: /,/lines/p'");
}

static void test_call_any_method(void **state)
{
    expect_output(0, "{\n  \"payload\": \"aGVsbG8=\"\n}\n", "", "forgectl call Ping -d '{\"payload\": \"aGVsbG8=\"}'");
    expect_output(0, "{}\n", "", "forgectl call forge.v1.ControlService/Ping");
    expect_output(0, "payload: aGVsbG8=\n", "", "echo '{\"payload\": \"aGVsbG8=\"}' | forgectl call ControlService/Ping -d @- -o yaml");
    expect_output(0, "{}\n", "", "forgectl call ListPolicies");
    /* A repeated write with the same request id has the first one's answer and no effect. */
    expect_output(0, "same\n", "",
                  "ID=0199e5c0-0000-7000-8000-000000000001; ID=$(printf '%%08x-%%04x-7000-8000-000000000001' $(($(date +%%s%%3N) >> 16)) "
                  "$(($(date +%%s%%3N) & 65535))); A=$(forgectl project create twice --request-id $ID -o name) && "
                  "B=$(forgectl project create twice --request-id $ID -o name) && test \"$A\" = \"$B\" && echo same");
}

static void test_services_and_describe(void **state)
{
    expect_output(0, "forge.v1.ControlService/Ping\n", "", "forgectl services -o name | grep Ping");
    expect_output(
        0,
        "// forge/v1/control.proto\n"
        "// Reply of CancelCall.\n"
        "message CancelCallResponse {\n"
        "  // True: the call was queued or parked and has ended. False: there is no such call, it is running or it has been answered.\n"
        "  bool cancelled = 1;\n"
        "}\n",
        "", "forgectl describe forge.v1.CancelCallResponse");
    expect_output(0, "rpc CancelCall(CancelCallRequest) returns (CancelCallResponse);\n", "",
                  "forgectl describe ControlService/CancelCall | tail -1");
    expect_output(0, "  oneof selector {\n", "", "forgectl describe GetPromptRequest | grep oneof");
    expect_output(0, "enum ServingStatus {\n", "", "forgectl describe ServingStatus | grep enum");
    expect_output(0, "service PromptService {\n", "", "forgectl describe PromptService | grep '^service'");
    expect_output(69, "", NULL, "forgectl describe Nothing");
}

/* ---- health ---- */

static void test_health_of_a_server_that_stops(void **state)
{
    expect_output(0, NULL, "", "forgectl health --wait --timeout 5000");
    expect_output(0, "1 us\n", "", "forgectl ping --count 3 | sed 's/[0-9]* us/1 us/' | uniq");
    expect_output(124, "serving\n", NULL, "timeout 2 $(command -v forgectl) health --watch -o name");
    world_server_stop(&world, 0);
    expect_output(78, "", NULL, "forgectl health");
    expect_output(78, "", NULL, "forgectl health --wait --timeout 300");
    expect_output(124, "unreachable\n", NULL, "timeout 2 $(command -v forgectl) health --watch -o name");
    world_server_start(&world, 0, true);
    expect_output(0, "serving\n", "", "forgectl health --wait -o name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_login_whoami_logout),
        cmocka_unit_test(test_login_with_a_wrong_password),
        cmocka_unit_test(test_login_asks_without_echo),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_organization_create),
        cmocka_unit_test(test_projects),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_errors_name_every_field),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_call_any_method),
        cmocka_unit_test(test_services_and_describe),
        cmocka_unit_test(test_health_of_a_server_that_stops),
    };
    return cmocka_run_group_tests(tests, set_up, forgectl_close_world);
}
