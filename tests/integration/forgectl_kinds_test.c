/* forgectl's commands for every kind of thing, against a real forged: what people see as table, JSON, YAML and names, and what is changed.
 */
#include "forgectl_test_support.h"

#include <pthread.h>

static int set_up(void **state)
{
    forgectl_open_world(state);
    forgectl_set("FORGE_OPERATOR_TOKEN", world.operator_token);
    forgectl_set("FORGE_PROJECT", world.home.project_id);
    return 0;
}

/* ---- user ---- */

static void test_users(void **state)
{
    expect_output(0,
                  "Id            <id>\n"
                  "E-mail        grace@home.example\n"
                  "Name          Grace\n"
                  "Role          developer\n"
                  "Disabled      no\n"
                  "Created       <time>\n"
                  "Password set  <time>\n"
                  "Etag          1\n",
                  "", "echo 'first password' | forgectl user create Grace@home.example --role developer --name Grace");
    expect_output(67, "",
                  "forgectl: INVALID_ARGUMENT: role: must be ROLE_VIEWER, ROLE_DEVELOPER or ROLE_ADMIN\n  role: must be ROLE_VIEWER, "
                  "ROLE_DEVELOPER or ROLE_ADMIN\n",
                  "echo 'first password' | forgectl user create x@home.example");
    expect_output(70, "", NULL, "echo 'first password' | forgectl user create grace@home.example --role viewer");
    expect_output(0, "grace@home.example\n", "", "forgectl user list --prefix grace -o name");
    expect_output(0,
                  "E-MAIL              NAME   ROLE       DISABLED  LAST LOGIN  ID\n"
                  "grace@home.example  Grace  developer  no                    <id>\n",
                  "", "forgectl user list --role developer");
    expect_output(0,
                  "{\n  \"id\": \"<id>\",\n  \"organization_id\": \"<id>\",\n  \"email\": \"grace@home.example\",\n"
                  "  \"display_name\": \"Grace\",\n  \"role\": \"ROLE_DEVELOPER\",\n  \"create_time\": \"<time>\",\n"
                  "  \"password_change_time\": \"<time>\",\n  \"etag\": \"1\"\n}\n",
                  "", "forgectl user get grace@home.example -o json");
    expect_output(0, "role: ROLE_VIEWER\n", "", "forgectl user update grace@home.example --role viewer --etag 1 -o yaml | grep role");
    expect_output(74, "", NULL, "forgectl user update grace@home.example --role admin --etag 1");
    expect_output(0, "Disabled      yes\n", "", "forgectl user update grace@home.example --disabled true | grep Disabled");
    expect_output(0, "", "", "forgectl user list --disabled false --prefix grace -o name");
    expect_output(0, NULL, "", "echo 'second password' | forgectl user update grace@home.example --password --disabled false");
    expect_output(0, "grace@home.example\n", NULL,
                  "echo 'second password' | forgectl login grace@home.example --context grace >/dev/null && FORGE_TOKEN= forgectl whoami "
                  "--context grace -o name");
    expect_output(0, "", "The password is changed; your other sessions have ended.\n",
                  "printf 'second password\\nthird password\\n' | FORGE_TOKEN= forgectl user password --context grace");
    expect_output(71, "", NULL, "printf 'second password\\nother password\\n' | FORGE_TOKEN= forgectl user password --context grace");
    expect_output(2, "", "forgectl: --yes is needed where nobody can be asked\n", "forgectl user delete grace@home.example </dev/null");
    expect_output(0, "Deleted grace@home.example\n", "", "forgectl user delete grace@home.example --yes");
    expect_output(69, "", NULL, "forgectl user get grace@home.example");
    expect_output(73, "", NULL, "forgectl user delete %s --yes", world.home.email); /* the last admin */
}

static const char *answer;

static void answer_question(int terminal, const char *seen)
{
    static const char question[] = "Delete prompt asked? [y/N] ";
    size_t length = strlen(seen);
    if (length >= sizeof question - 1 && !strcmp(seen + length - (sizeof question - 1), question))
        assert_int_equal(write(terminal, answer, strlen(answer)), strlen(answer));
}

/* On a terminal forgectl asks, and takes anything but yes for no. */
static void test_deletion_asks_on_a_terminal(void **state)
{
    static const char *const answers[] = {"n\n", "yes\n"}, *const line[] = {"forgectl", "prompt", "delete", "asked", NULL};
    char seen[1024];
    expect_output(0, NULL, "", "forgectl prompt create asked --content x");
    for (int i = 0; i < 2; i++) {
        answer = answers[i];
        assert_int_equal(forgectl_on_terminal(line, seen, sizeof seen, answer_question), i == 0 ? 1 : 0);
        assert_non_null(strstr(seen, i == 0 ? "not deleted" : "Deleted asked"));
    }
    expect_output(69, "", NULL, "forgectl prompt get asked");
}

/* ---- colour ---- */

/* What the terminal shows of a diff, and what a pipe gets: the same but for the colours. */
static void test_colour_on_a_terminal_only(void **state)
{
    static const char *const lines[][7] = {{"forgectl", "prompt", "diff", "painted", NULL},
                                           {"forgectl", "prompt", "diff", "painted", "--color", "never", NULL}};
    static const char coloured[] = "\033[36m@@ -1 +1 @@\033[0m\r\n\033[31m-one\033[0m\r\n\033[32m+two\033[0m\r\n";
    static const char plain[] = "@@ -1 +1 @@\n-one\n+two\n";
    static const char on_terminal[] = "@@ -1 +1 @@\r\n-one\r\n+two\r\n";
    char seen[1024];
    expect_output(0, NULL, "",
                  "printf 'one\\n' | forgectl prompt create painted --file - && "
                  "printf 'two\\n' | forgectl prompt add-version painted --file - --make-current");
    forgectl_set("TERM", "xterm");
    assert_int_equal(forgectl_on_terminal(lines[0], seen, sizeof seen, NULL), 0);
    if (!strstr(seen, coloured))
        fail_msg("%s", seen);
    assert_int_equal(forgectl_on_terminal(lines[1], seen, sizeof seen, NULL), 0);
    assert_non_null(strstr(seen, on_terminal));
    forgectl_set("NO_COLOR", "1");
    assert_int_equal(forgectl_on_terminal(lines[0], seen, sizeof seen, NULL), 0);
    assert_non_null(strstr(seen, on_terminal));
    forgectl_set("NO_COLOR", "");
    expect_output(0, plain, "", "forgectl prompt diff painted | tail -3");
    expect_output(0, "\033[31m-one\033[0m\n", "", "NO_COLOR=1 forgectl prompt diff painted --color always | grep one");
    expect_output(2, "", "forgectl: --color must be auto, always or never, not \"red\"\n", "forgectl prompt diff painted --color red");
    expect_output(0, NULL, "", "forgectl prompt delete painted --yes");
}

/* ---- key ---- */

static void test_key_lists(void **state)
{
    expect_output(
        0, "NAME              SCOPES\nkey of the tests  ingest\nkey of the tests  admin\nkey of the tests  write\nkey of the tests  read\n",
        "", "forgectl key list | cut -c1-24 | sed 's/ *$//'");
    expect_output(0, "<id>\n", "", "forgectl key list --page-size 1 -o name 2>/dev/null");
    expect_output(2, "", "forgectl: --expires-days must be a number of days from 1 to 36500, not \"0\"\n",
                  "forgectl key create x --expires-days 0");
}

/* ---- organization ---- */

static void test_organizations(void **state)
{
    expect_output(0, "Created      <time>\nUpdated      <time>\nEtag         2\n", "",
                  "forgectl organization update --description 'Our home' | tail -3");
    expect_output(2, "", "forgectl: nothing to change is given; see forgectl organization update --help\n", "forgectl organization update");
    expect_output(0, "organization-foreign\norganization-home\n", "", "forgectl organization list -o name");
    expect_output(2, "", "forgectl: an operator token is needed: FORGE_OPERATOR_TOKEN or --token (forged bootstrap token makes one)\n",
                  "FORGE_OPERATOR_TOKEN= forgectl organization list");
    expect_output(2, "", "forgectl: --confirm NAME is needed where nobody can be asked\n", "forgectl organization delete </dev/null");
    expect_output(73, "", NULL, "forgectl organization delete --confirm 'another name'");
    expect_output(0, "Deleted organization\n", "", "FORGE_TOKEN=%s forgectl organization delete --confirm 'Organization foreign'",
                  world.foreign.admin_key);
    expect_output(80, "", NULL, "FORGE_TOKEN=%s forgectl organization get", world.foreign.admin_key);
    expect_output(0, "organization-home\n", "", "forgectl organization list -o name");
    expect_output(0, "organization-foreign\norganization-home\n", "", "forgectl organization list --deleted -o name");
}

/* ---- project ---- */

static void test_projects_change(void **state)
{
    expect_output(0, NULL, "", "forgectl project create shop --description 'What we sell'");
    expect_output(0, "name: store\ndescription: ''\n", "",
                  "forgectl project update shop --name store --description '' -o yaml | grep -e name -e nothing; echo \"description: ''\"");
    expect_output(0, "Prompts          0\nVersions         0\nExecutions       0\n", "", "forgectl project summary store | head -3");
    expect_output(73, "", NULL, "forgectl project delete store --confirm shop");
    expect_output(0, "Deleted store\n", "", "forgectl project delete store --confirm store");
    expect_output(69, "", NULL, "forgectl project get store");
}

/* ---- prompt ---- */

static void test_prompts_change(void **state)
{
    expect_output(0, NULL, "", "printf 'one\\ntwo\\n' | forgectl prompt create moving --file -");
    expect_output(0,
                  "Id               <id>\n"
                  "Name             moving\n"
                  "Description      moves\n"
                  "Current version  1\n"
                  "Latest version   1\n"
                  "Updated          <time>\n"
                  "Etag             2\n",
                  "", "forgectl prompt update moving --description moves");
    expect_output(0, "2\n", "", "printf 'one\\n2\\n' | forgectl prompt add-version moving --file - -m 'a number' -o name");
    expect_output(0, "Existing  yes\n", "", "printf 'one\\n2\\n' | forgectl prompt add-version moving --file - | grep Existing");
    expect_output(74, "", NULL, "forgectl prompt add-version moving --content x --make-current --expected-current 2");
    expect_output(2, "", "forgectl: content is given twice, in two ways\n",
                  "forgectl prompt add-version moving --content x --file - </dev/null");
    expect_output(0, "VERSION CURRENT\n2 no\n1 yes\n", "", "forgectl prompt versions moving | awk '{print $1, $2}'");
    expect_output(0, "2\n1\n", "", "forgectl prompt versions moving -o name");
    expect_output(0,
                  "--- content (version 1)\n"
                  "+++ content (version 2)\n"
                  "@@ -1,2 +1,2 @@\n"
                  " one\n"
                  "-two\n"
                  "+2\n",
                  "", "forgectl prompt diff moving 1 2");
    expect_output(0, "content\n", "", "forgectl prompt diff moving 2 1 -o name");
    expect_output(0, "Versions 2 and 2 are the same.\n", "", "forgectl prompt diff moving 2 2");
    expect_output(2, "", "forgectl: a version is a number from 1, not \"x\"\n", "forgectl prompt diff moving x");
    expect_output(0, "2\n", "", "forgectl prompt set-current moving 2 --expected 1 -o name");
    expect_output(74, "", NULL, "forgectl prompt set-current moving 2 --expected 1");
    expect_output(69, "", NULL, "forgectl prompt set-current moving 9");
    expect_output(0, "1\n", "", "forgectl prompt rollback moving -m 'too terse' -o name");
    expect_output(0, "Deleted moving\n", "", "forgectl prompt delete moving --yes");
    expect_output(69, "", NULL, "forgectl prompt get moving");
}

/* ---- label ---- */

static void test_labels_move(void **state)
{
    expect_output(0, NULL, "", "forgectl prompt create labelled --content one");
    expect_output(0, NULL, "",
                  "forgectl prompt add-version labelled --content two && forgectl prompt add-version labelled --content three");
    expect_output(0,
                  "Name       live\n"
                  "Prompt     <id>\n"
                  "Points at  1\n"
                  "Protected  no\n"
                  "Created    <time>\n"
                  "Moved by   <id>\n"
                  "Etag       1\n",
                  "", "forgectl label set labelled live 1 --expected 0");
    expect_output(74, "", NULL, "forgectl label set labelled live 2 --expected 0");
    expect_output(0, "Points at  2\nEtag       2\n", "",
                  "forgectl label set labelled live 2 --expected 1 --etag 1 -m better | grep -e Points -e Etag");
    expect_output(0, "Points at  2=10, 3=90\n", "", "forgectl label split labelled live 3=90 2=10 | grep Points");
    expect_output(0, "live\n", "", "forgectl label split labelled live 3=90 2=10 -o name");
    expect_output(2, "", "forgectl: a share is version=weight, two numbers from 1, not \"3\"\n",
                  "forgectl label split labelled live 2=1 3");
    expect_output(2, "", "forgectl: version must be a whole number, not \"x\"\n", "forgectl label set labelled live x");
    expect_output(69, "", NULL, "forgectl label set labelled live 4");
    expect_output(67, "",
                  "forgectl: INVALID_ARGUMENT: label: must be 1 to 64 of a-z, 0-9, _, . and -, not only digits\n"
                  "  label: must be 1 to 64 of a-z, 0-9, _, . and -, not only digits\n",
                  "forgectl label set labelled Live 1");
    expect_output(0, "--- content\ntwo\n--- content\ntwo\n", "",
                  "forgectl label set labelled two 2 -o name >/dev/null; for user in a b; do forgectl prompt get labelled --label two "
                  "--subject $user | tail -2; done");
    expect_output(0, "2\n", "", "forgectl label rollback labelled live -m undo | sed -n 's/Points at  //p'");
    expect_output(0, "2=10, 3=90\n", "", "forgectl label rollback labelled live | sed -n 's/Points at  //p'");
    expect_output(0,
                  "LABEL  POINTS AT   PROTECTED  MOVED                 PROMPT\n"
                  "live   2=10, 3=90  no         <time>  <id>\n"
                  "two    2           no                               <id>\n",
                  "", "forgectl label list labelled");
    expect_output(0,
                  "LABEL  FROM        TO          WHEN                  WHO                                   MESSAGE\n"
                  "live   2           2=10, 3=90  <time>  <id>  \n"
                  "live   2=10, 3=90  2           <time>  <id>  undo\n"
                  "live   2           2=10, 3=90  <time>  <id>  \n"
                  "live   1           2           <time>  <id>  better\n"
                  "live               1           <time>  <id>  \n",
                  "", "forgectl label history labelled live");
    expect_output(0, "live\nlive\ntwo\n", NULL, "forgectl label history labelled --page-size 3 -o name");
    expect_output(0, "current\n", "", "forgectl label history labelled current -o name");
    expect_output(0, "labelled\n", "", "forgectl prompt list --label two -o name");
}

/* On from the labels of the test before. */
static void test_labels_are_protected_and_deleted(void **state)
{
    expect_output(0,
                  "Label       live\n"
                  "Project     <id>\n"
                  "Protected   yes\n"
                  "Changed     <time>\n"
                  "Changed by  <id>\n"
                  "Etag        <id>.1\n",
                  "", "forgectl label protect live");
    expect_output(0, "Prompt      <id>\n", "", "forgectl label protect two --prompt labelled | grep Prompt");
    expect_output(0,
                  "LABEL  POINTS AT   PROTECTED  MOVED                 PROMPT\n"
                  "live   2=10, 3=90  yes        <time>  <id>\n"
                  "two    2           yes                              <id>\n"
                  "\n"
                  "live is protected for all prompts\n"
                  "two is protected for prompt <id>\n",
                  "", "forgectl label list");
    expect_output(0, "live\n", "", "forgectl label list --label live -o name");
    expect_output(0, NULL, "", "forgectl dataset create golden");
    expect_output(0,
                  "Protected          no\n"
                  "Needs evaluation   yes\n"
                  "Least score        0.9\n"
                  "On dataset         <id>\n"
                  "Least results      20\n"
                  "No open violation  yes\n",
                  "",
                  "forgectl label protect live --gate-only --require-evaluation --min-score 0.9 --min-results 20 --dataset golden"
                  " --require-no-violations | sed -n '/Protected/,/violation/p'");
    expect_output(0, "live has a gate for all prompts\n", "", "forgectl label list | grep '^live has'");
    expect_output(0, "live is protected and has a gate for all prompts\n", "",
                  "forgectl label protect live --require-evaluation -o name >/dev/null && forgectl label list | grep '^live is'");
    expect_output(73, "", "forgectl: FAILED_PRECONDITION: the gate of label \"live\" refuses version 1: it has no completed evaluation\n",
                  "forgectl label set labelled live 1");
    expect_output(2, "", "forgectl: --min-score must be a number, not \"high\"\n", "forgectl label protect live --min-score high");
    expect_output(67, "", NULL, "forgectl label protect live --min-score 0.9");
    expect_output(0, "Protected  no\n", "", "forgectl label unprotect live | grep Protected");
    expect_output(0, NULL, "", "forgectl dataset delete golden --yes");
    expect_output(2, "", "forgectl: --yes is needed where nobody can be asked\n", "forgectl label delete labelled live </dev/null");
    expect_output(0, "Deleted live\n", "", "forgectl label delete labelled live --yes");
    expect_output(69, "", NULL, "forgectl prompt get labelled --label live");
    expect_output(0, "2=10, 3=90\n", "", "forgectl label rollback labelled live | sed -n 's/Points at  //p'"); /* takes it back */
    expect_output(69, "", NULL, "forgectl prompt get labelled --label live --as-of 2020-01-01T00:00:00Z");
    expect_output(2, "", "forgectl: --as-of must be a time such as <time>, not \"yesterday\"\n",
                  "forgectl prompt get labelled --as-of yesterday");
    expect_output(0, NULL, "", "forgectl prompt delete labelled --yes");
}

/* ---- tag, execution ---- */

static void test_tags_and_executions(void **state)
{
    expect_output(0, NULL, "", "forgectl prompt create used --content x");
    expect_output(0, "Name     coding\nPrompts  0\n", "", "forgectl tag create coding | tail -2");
    expect_output(70, "", NULL, "forgectl tag create coding");
    expect_output(0, "Tags  coding\n", "", "forgectl prompt tag used coding");
    expect_output(69, "", NULL, "forgectl prompt tag used missing");
    expect_output(0, "used\n", "", "forgectl prompt list --tag coding -o name");
    expect_output(0, "coding 1\n", "", "forgectl tag list --prefix cod | awk 'NR > 1 {print $1, $2}'");
    expect_output(0, "Version  1\nRating   4\nSuccess  yes\nNotes    good\nUsed     <time>\n", "",
                  "forgectl execution record used --rating 4 --notes good | tail -5");
    expect_output(0, "Success  no\n", "", "forgectl execution record used --failed | grep Success");
    expect_output(67, "", "forgectl: INVALID_ARGUMENT: rating: must be 1 to 5, or 0 for none\n  rating: must be 1 to 5, or 0 for none\n",
                  "forgectl execution record used --rating 6");
    expect_output(0, "no\n", "", "forgectl execution list used --success false | awk 'NR > 1 {print $4}'");
    expect_output(0,
                  "VERSION  EXECUTIONS  SUCCESS RATE  RATED  RATING  LAST\n"
                  "1        2           0.5           1      4       <time>\n"
                  "\n"
                  "All versions together\n"
                  "Executions    2\n"
                  "Success rate  0.5\n"
                  "Rated         1\n"
                  "Rating        4\n"
                  "\n"
                  "Successes by version\n"
                  "1      #################                    50%  1 of 2\n"
                  "\n"
                  "Ratings of all versions\n"
                  "5                                            0%  0\n"
                  "4      ##################################  100%  1\n"
                  "3                                            0%  0\n"
                  "2                                            0%  0\n"
                  "1                                            0%  0\n",
                  "", "LC_ALL=C COLUMNS=69 forgectl prompt stats used");
    expect_output(0, "1      ██▌     50%  1 of 2\n", "", "COLUMNS=40 forgectl prompt stats used | grep ' of 2'");
    expect_output(0, "rating_counts:\n- \"0\"\n", "", "forgectl prompt stats used -o yaml | grep -m1 -A1 rating_counts | sed 's/^ *//'");
    expect_output(0, "", "", "forgectl prompt untag used coding -o name | grep .; true");
    expect_output(0, "Deleted coding\n", "", "forgectl tag delete coding --yes");
    expect_output(0, NULL, "", "forgectl prompt delete used --yes");
}

/* ---- watch ---- */

static void *watch_once(void *output)
{
    forgectl_shell(output, "forgectl prompt watch --once");
    return NULL;
}

/* The watch tells of what happens after its listing. */
static void test_a_watch_prints_changes(void **state)
{
    struct child_output output;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, watch_once, &output), 0);
    for (int waits = 0; world_metric(&world, 0, "forged_parked_calls") < 1; waits++) {
        assert_true(waits < 10000);
        world_sleep_ms(1);
    }
    struct forge_channel *channel = world_channel(&world, 0, world.home.admin_key);
    char id[WORLD_ID_SIZE], expected[64];
    world_create_prompt(&world, channel, &world.home, "watched", "x", id);
    forge_channel_close(channel);
    pthread_join(thread, NULL);
    snprintf(expected, sizeof expected, "changed  %s\n", id);
    assert_string_equal(output.out, expected);
    assert_int_equal(output.exit_code, 0);
    child_output_done(&output);
}

/* ---- service-account ---- */

static void test_service_accounts(void **state)
{
    struct child_output output;
    expect_output(0, "NAME  ROLE  SAN URI  PREFIX  CREATED  LAST USE  ID\n", "", "forgectl service-account list");
    forgectl_shell(&output, "forgectl service-account create billing --role viewer -o name");
    if (output.exit_code || strncmp(output.out, "pfk_", 4) != 0)
        fail_msg("%s%s", output.out, output.err);
    output.out[strcspn(output.out, "\n")] = '\0';
    expect_output(0, "billing\n", "", "FORGE_TOKEN=%s forgectl whoami -o name", output.out);
    expect_output(71, "", NULL, "FORGE_TOKEN=%s forgectl project create x", output.out);
    expect_output(0, "billing\n", "", "forgectl service-account list --prefix bill -o name");
    expect_output(70, "", NULL, "forgectl service-account create billing --role viewer");
    expect_output(0, "Deleted billing\n", "", "forgectl service-account delete billing --yes");
    expect_output(80, "", NULL, "FORGE_TOKEN=%s forgectl whoami", output.out);
    expect_output(69, "", "forgectl: NOT_FOUND: there is no service account \"billing\"\n",
                  "forgectl service-account delete billing --yes");
    child_output_done(&output);
}

/* ---- dataset ---- */

static void test_datasets(void **state)
{
    expect_output(0,
                  "Id              <id>\n"
                  "Name            cases\n"
                  "Description     of support\n"
                  "Latest version  0\n"
                  "Items           0\n"
                  "Created         <time>\n"
                  "Etag            1\n",
                  "", "forgectl dataset create cases --description 'of support'");
    expect_output(2, "", "forgectl: what shall change? --file PATH (- for standard input), --remove KEY, or both\n",
                  "forgectl dataset add cases");
    expect_output(0,
                  "Dataset   <id>\nVersion   1\nItems     2\nExisting  no\nHash      "
                  "efa50d3ececd4961a2f61b845876b0d101ff25a5cf9149ed11a9a0ff93fdbf7e\nMessage   first\n",
                  "",
                  "printf '%%s\\n\\n%%s\\n' '{\"key\": \"a\", \"input\": {\"q\": \"why\"}, \"expected_output\": \"1\"}'"
                  " '{\"key\": \"b\", \"input\": \"{}\", \"metadata\": {\"n\": 1}}' | forgectl dataset add cases -f - -m first");
    expect_output(0, "KEY  INPUT        EXPECTED OUTPUT\na    {\"q\":\"why\"}  1\nb    {}           \n", "",
                  "forgectl dataset items cases");
    expect_output(1, "", "forgectl: -:2: colour: DatasetItem has no such field\n",
                  "printf '%%s\\n%%s\\n' '{\"key\": \"c\"}' '{\"colour\": 1}' | forgectl dataset add cases -f -");
    expect_output(1, "", NULL, "echo '{\"key\": \"c\"' | forgectl dataset add cases -f -");
    expect_output(1, "", "forgectl: /dev/null has no items\n", "forgectl dataset add cases -f /dev/null");
    expect_output(0, "2\n", "", "forgectl dataset add cases --remove a --expected 1 -o name");
    expect_output(69, "", NULL, "forgectl dataset add cases --remove a");
    expect_output(0, "b\n", "", "forgectl dataset items cases -o name");
    expect_output(0, "a\nb\n", "", "forgectl dataset items cases --version 1 -o name");
    expect_output(0, "4\n", "1000 items sent, version 3\n1500 items sent, version 4\n",
                  "seq 1500 | sed 's/.*/{\"key\": \"k&\"}/' | forgectl dataset add cases -f - -o name");
    expect_output(0, "NAME   VERSION  ITEMS  UPDATED               ID\ncases  4        1501   <time>  <id>\n", "", "forgectl dataset list");
    expect_output(0, "Deleted cases\n", "", "forgectl dataset delete cases --yes");
    expect_output(69, "", NULL, "forgectl dataset get cases");
}

/* ---- usage ---- */

static void test_usage(void **state)
{
    world_execute(&world,
                  "INSERT INTO usage_daily (organization_id, day, project_id, metric, value) VALUES"
                  " ('%s', '2001-03-01', '%s', 'calls', 12), ('%s', '2001-03-02', '%s', 'prompt_reads', 3)",
                  world.home.organization_id, world.home.project_id, world.home.organization_id, world.home.project_id);
    expect_output(0,
                  "DATE        METRIC        VALUE  PROJECT\n"
                  "2001-03-01  calls         12     \n"
                  "2001-03-02  prompt_reads  3      \n",
                  "", "forgectl usage --from 2001-03-01 --to 2001-03-31");
    world_execute(&world,
                  "INSERT INTO quotas (organization_id, project_id, metric, period, limit_value) VALUES"
                  " ('%s', '%s', 'projects', 'total', 50)",
                  world.home.organization_id, world.home.project_id);
    expect_output(0,
                  "DATE        METRIC  VALUE  PROJECT\n"
                  "2001-03-01  calls   12     <id>\n"
                  "\n"
                  "QUOTA     PERIOD  LIMIT  USED  PROJECT\n"
                  "projects  total   50     1     <id>\n",
                  "", "forgectl usage --from 2001-03-01 --to 2001-03-01 --project $FORGE_PROJECT");
    expect_output(67, "", NULL, "forgectl usage --from 2001-02-29 --to 2001-03-01");
}

/* ---- audit ---- */

/* So many more events like the last one. */
static void lengthen_log(const char *organization_id, int count)
{
    world_execute(
        &world,
        "DO $$ DECLARE e audit_log; BEGIN SELECT * INTO e FROM audit_log WHERE organization_id = '%s' ORDER BY sequence DESC LIMIT 1;"
        " FOR i IN 1..%d LOOP e.sequence := e.sequence + 1; e.hash := sha256(e.hash || e.canonical);"
        " INSERT INTO audit_log VALUES (e.*); END LOOP;"
        " UPDATE audit_heads SET sequence = e.sequence, hash = e.hash WHERE organization_id = e.organization_id; END $$",
        organization_id, count);
}

static void test_audit_lists(void **state)
{
    expect_output(0,
                  "SEQUENCE  TIME                  ACTION               ACTOR  ROLE  TARGET                                FROM\n"
                  "1         <time>  organization.create               <id>  127.0.0.1\n",
                  "", "forgectl audit list --action organization.create");
    expect_output(0, "service_account.delete key\nservice_account.create key\n", "",
                  "forgectl audit list --action service_account | awk 'NR > 1 {print $4, $5}'");
    expect_output(0, "1\n", "", "forgectl audit list --target-kind organization --until 2100-01-01T00:00:00Z -o name");
    expect_output(0, "", "", "forgectl audit list --until 2020-01-01T00:00:00Z -o name");
    expect_output(0, "2\n", NULL, "forgectl audit list --page-size 2 -o name | wc -l");
    expect_output(0,
                  "        \"details\": \"{\\\"id\\\": \\\"<id>\\\", \\\"etag\\\": \\\"1\\\", \\\"name\\\": \\\"Organization home\\\", "
                  "\\\"slug\\\": \\\"organization-home\\\", \\\"create_time\\\": \\\"<time>\\\"}\",\n",
                  "", "forgectl audit list --target %s -o json | grep details | sed 's/^ */        /'", world.home.organization_id);
    expect_output(2, "", NULL, "forgectl audit list --since yesterday");
    expect_output(67, "", "forgectl: INVALID_ARGUMENT: actor_id: must be a UUID\n  actor_id: must be a UUID\n",
                  "forgectl audit list --actor x");
    expect_output(71, "", NULL, "FORGE_TOKEN=%s forgectl audit list", world.home.write_key);
}

/* In parts of 10,000, and where each kind of output goes. */
static void test_audit_is_verified(void **state)
{
    const char *id = world.foreign.organization_id;
    expect_output(0, "5 events, unbroken. Hash of the last one: h\n", "",
                  "FORGE_TOKEN=%s forgectl audit verify | sed 's/[0-9a-f]\\{64\\}/h/'", world.foreign.admin_key);
    lengthen_log(id, 10000);
    expect_output(0, NULL, "10000 events verified ...\n10005 events verified\n", "FORGE_TOKEN=%s forgectl audit verify -o name",
                  world.foreign.admin_key);
    expect_output(0, "verified_count: \"10005\"\nlast_sequence: \"10005\"\n", NULL,
                  "FORGE_TOKEN=%s forgectl audit verify -o yaml | grep 0005", world.foreign.admin_key);
    world_execute(&world, "UPDATE audit_log SET principal_name = 'nobody' WHERE organization_id = '%s' AND sequence = 10003", id);
    expect_output(1, "",
                  "10000 events verified ...\n"
                  "forgectl: the audit log is broken at event 10003: the event is not what its canonical bytes say\n",
                  "FORGE_TOKEN=%s forgectl audit verify", world.foreign.admin_key);
    expect_output(1, "verified_count: \"10002\"\nlast_sequence: \"10002\"\nbroken_sequence: \"10003\"\n", NULL,
                  "FORGE_TOKEN=%s forgectl audit verify -o yaml > verified; code=$?; grep 000 verified; exit $code",
                  world.foreign.admin_key);
    world_execute(&world, "DELETE FROM audit_log WHERE organization_id = '%s' AND sequence = 2", id);
    expect_output(1, "", "forgectl: the audit log is broken at event 2: the event is missing\n", "FORGE_TOKEN=%s forgectl audit verify",
                  world.foreign.admin_key);
    expect_output(71, "", NULL, "FORGE_TOKEN=%s forgectl audit verify", world.foreign.write_key);
}

/* ---- provider and model ---- */

static void test_providers(void **state)
{
    expect_output(0,
                  "Id          <id>\n"
                  "Name        OpenAI\n"
                  "Key         openai\n"
                  "URL         https://api.openai.com/v1\n"
                  "Credential  yes\n"
                  "Ends in     6789\n"
                  "Created     <time>\n"
                  "Etag        1\n",
                  "", "echo 'sk-0123456789' | forgectl provider create OpenAI --base-url https://api.openai.com/v1 --credential-file -");
    expect_output(2, "", NULL, "forgectl provider create Flag --credential sk-0123456789");
    expect_output(1, "", "forgectl: cannot read nothing: No such file or directory\n",
                  "forgectl provider create X --credential-file nothing");
    expect_output(1, "", "forgectl: - holds a NUL character\n", "printf 'a\\0b\\n' | forgectl provider create X --credential-file -");
    expect_output(70, "", NULL, "forgectl provider create OpenAI");
    expect_output(0,
                  "NAME    KEY     URL                        CREDENTIAL  ID\n"
                  "OpenAI  openai  https://api.openai.com/v1  yes         <id>\n",
                  "", "forgectl provider list --prefix Open");
    expect_output(0, "credential_suffix: cdef\n", "",
                  "printf 'sk-9876543210cdef\\r\\n' > credential && forgectl provider update OpenAI --credential-file credential -o yaml | "
                  "grep suffix");
    expect_output(0, "Credential  no\nEtag        3\n", "",
                  "forgectl provider update OpenAI --credential-file /dev/null | grep -E 'Credential|Ends|Etag'");
    expect_output(74, "", NULL, "forgectl provider update OpenAI --key other --etag 1");
    expect_output(69, "", NULL, "forgectl provider get Missing");
}

static void test_models_and_prices(void **state)
{
    expect_output(0, NULL, "", "forgectl provider create Twin");
    expect_output(0,
                  "Id              <id>\n"
                  "Name            gpt-4\n"
                  "Display name    GPT-4\n"
                  "Provider        OpenAI\n"
                  "Aliases         gpt-4-0613, gpt-4-0314\n"
                  "Context window  8192\n"
                  "Longest output  4096\n"
                  "Deprecated      no\n"
                  "Created         <time>\n"
                  "Etag            1\n",
                  "",
                  "forgectl model create gpt-4 --provider OpenAI --display-name GPT-4 --alias gpt-4-0613 --alias gpt-4-0314 "
                  "--context-window 8192 --max-output 4096");
    expect_output(0, "<id>\n", "", "forgectl model create gpt-4 --provider Twin -o name");
    expect_output(2, "", "forgectl: OpenAI and Twin both have a model \"gpt-4\": give its id, or --provider where the command has it\n",
                  "forgectl model get gpt-4");
    expect_output(0, "provider_name: Twin\n", "", "forgectl model get gpt-4 --provider Twin -o yaml | grep provider_name");
    expect_output(0, "Deleted gpt-4\n", "", "forgectl model delete gpt-4 --provider Twin --yes");
    expect_output(0,
                  "NAME   PROVIDER  CONTEXT  OUTPUT  DEPRECATED  ID\n"
                  "gpt-4  OpenAI    8192     4096    no          <id>\n",
                  "", "forgectl model list --provider OpenAI");
    expect_output(0, "Aliases         gpt-4-0613\n", "", "forgectl model update gpt-4 --alias gpt-4-0613 | grep Aliases");
    expect_output(69, "", "forgectl: NOT_FOUND: there is no model \"gpt\"\n", "forgectl model get gpt");
    expect_output(0, "From           <time>\nCurrency       USD\nPer 1M tokens  input 30.00, output 60.00\n", "",
                  "forgectl model price set gpt-4 --input-price 30 --output-price 60.00 --from 2023-03-14T00:00:00Z | grep -E "
                  "'From|Currency|Per'");
    expect_output(0, "usage_prices:\n- usage_type: USAGE_TYPE_CACHE_READ\n  micros_per_million_tokens: \"75125\"\n", "",
                  "forgectl model price set gpt-4 --cache-read-price 0.075125 -o yaml | sed -n '/usage_prices/,/micros/p'");
    expect_output(2, "", "forgectl: --input-price must be dollars for a million tokens, such as 2.50, not \"0.0000001\"\n",
                  "forgectl model price set gpt-4 --input-price 0.0000001");
    for (const char *const *wrong = (const char *const[]){"-1", "1.", ".5", "1,5", "x", "1.2.3", "1234567890123", "", NULL}; *wrong;
         wrong++)
        expect_output(2, "", NULL, "forgectl model price set gpt-4 --input-price '%s'", *wrong);
    expect_output(67, "", NULL, "forgectl model price set gpt-4");
    expect_output(70, "", NULL, "forgectl model price set gpt-4 --input-price 1 --from 2023-03-14T00:00:00Z");
    expect_output(0, "CURRENCY  PER 1M TOKENS\nUSD       cache_read 0.075125\nUSD       input 30.00, output 60.00\n", "",
                  "forgectl model price list gpt-4 | sed 's/^.*  \\(CURRENCY\\|USD\\)/\\1/'");
    expect_output(0, "input 30.00, output 60.00\n", "",
                  "forgectl model price list --at 2024-01-01T00:00:00Z | tail -1 | sed 's/^.*USD *//'");
}

static void test_prompts_of_a_model(void **state)
{
    expect_output(0, "Model            gpt-4\n", "", "forgectl prompt create modelled --content x --model gpt-4 | grep Model");
    expect_output(0, "modelled\n", "", "forgectl prompt list --model gpt-4 -o name");
    expect_output(0, "model_name: gpt-4\n", "",
                  "forgectl prompt add-version modelled --content y --model gpt-4 --make-current -o yaml | grep model_name");
    expect_output(73, "", NULL, "forgectl provider delete OpenAI --yes");
    expect_output(0, "Deleted modelled\n", "", "forgectl prompt delete modelled --yes");
    expect_output(0, "Deleted OpenAI\n", "", "forgectl provider delete OpenAI --yes");
    expect_output(0, "", "", "forgectl model list -o name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_deletion_asks_on_a_terminal),
        cmocka_unit_test(test_colour_on_a_terminal_only),
        cmocka_unit_test(test_key_lists),
        cmocka_unit_test(test_projects_change),
        cmocka_unit_test(test_prompts_change),
        cmocka_unit_test(test_labels_move),
        cmocka_unit_test(test_labels_are_protected_and_deleted),
        cmocka_unit_test(test_tags_and_executions),
        cmocka_unit_test(test_a_watch_prints_changes),
        cmocka_unit_test(test_service_accounts),
        cmocka_unit_test(test_datasets),
        cmocka_unit_test(test_providers),
        cmocka_unit_test(test_models_and_prices),
        cmocka_unit_test(test_prompts_of_a_model),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_audit_lists),
        cmocka_unit_test(test_audit_is_verified),
        cmocka_unit_test(test_organizations),
    };
    return cmocka_run_group_tests(tests, set_up, forgectl_close_world);
}
