#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/config.h"
#include "app/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/forge-config-XXXXXX";
static struct app_config config;
static struct app_words words;
static struct forge_error error;

/* What serve cannot do without. */
#define REQUIRED "--database-url", "postgresql://u:secret@h/d", "--tls-certificate-file", "c", "--tls-key-file", "k", "--key-file", "f"

static forge_code load(enum app_command command, const char *const arguments[])
{
    int count = 0;
    while (arguments[count] != NULL)
        count++;
    memset(&error, 0, sizeof error);
    return app_config_load(command, count, (char *const *)(uintptr_t)arguments, &config, &words, &error);
}

static void assert_refused(const char *const arguments[], const char *message)
{
    assert_int_equal(load(APP_SERVE, arguments), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.message, message);
}

static void write_env(const char *text)
{
    FILE *file = fopen(".env", "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

static int enter_folder(void **state)
{
    memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
    return mkdtemp(folder) == NULL || chdir(folder) != 0;
}

static int leave_folder(void **state)
{
    unlink(".env");
    unlink("other.env");
    unsetenv("FORGE_LISTEN_PORT");
    unsetenv("FORGE_WORKERS");
    return rmdir(folder);
}

static void test_config_defaults_are_as_the_table_says(void **state)
{
    assert_int_equal(load(APP_SERVE, (const char *[]){REQUIRED, NULL}), FORGE_OK);
    assert_int_equal(config.listen_port, 7443);
    assert_string_equal(config.listen_host, "::");
    assert_null(config.ipc_url);
    assert_int_equal(config.mode, APP_PRODUCTION);
    assert_int_equal(config.rpc.handshake_ms, 5000);
    assert_int_equal(config.rpc.idle_ms, 300000);
    assert_int_equal(config.rpc.message_max, 4 << 20);
    assert_int_equal(config.rpc.message_unproven_max, 16 << 10);
    assert_int_equal(config.database_connection_idle_ms, 60000);
    assert_int_equal(config.byte_budget, 512u << 20);
    app_config_done(&config);
}

static void test_config_flag_wins_over_environment_over_file(void **state)
{
    write_env("# comment\n\nFORGE_LISTEN_PORT=1\nFORGE_WORKERS = 9\n");
    assert_refused((const char *[]){REQUIRED, NULL}, ".env line 4 is not VARIABLE=value");
    write_env("# comment\n\nFORGE_LISTEN_PORT=1\n  FORGE_WORKERS=\"9\" \nexport FORGE_LOOPS=3\nUNRELATED=x y\n");
    setenv("FORGE_LISTEN_PORT", "2", 1);
    assert_int_equal(load(APP_SERVE, (const char *[]){REQUIRED, NULL}), FORGE_OK);
    assert_int_equal(config.listen_port, 2);
    assert_int_equal(config.rpc.workers, 9);
    assert_int_equal(config.rpc.loops, 3);
    app_config_done(&config);
    assert_int_equal(load(APP_SERVE, (const char *[]){REQUIRED, "--listen-port=3", NULL}), FORGE_OK);
    assert_int_equal(config.listen_port, 3);
    app_config_done(&config);
}

static void test_config_empty_value_means_the_default(void **state)
{
    setenv("FORGE_LISTEN_PORT", "", 1);
    assert_int_equal(load(APP_SERVE, (const char *[]){REQUIRED, "--workers", "", "--ipc-url=", NULL}), FORGE_OK);
    assert_int_equal(config.listen_port, 7443);
    assert_int_equal(config.rpc.workers, 15);
    assert_null(config.ipc_url);
    app_config_done(&config);
}

static void test_config_ages_are_hours(void **state)
{
    assert_int_equal(load(APP_ARCHIVE, (const char *[]){"--database-maint-url", "u", NULL}), FORGE_OK);
    assert_int_equal(config.older_than_h, 90 * 24);
    app_config_done(&config);
    assert_int_equal(load(APP_ARCHIVE, (const char *[]){"--database-maint-url", "u", "--older-than", "12h", NULL}), FORGE_OK);
    assert_int_equal(config.older_than_h, 12);
    app_config_done(&config);
}

static void test_config_named_file_must_exist(void **state)
{
    assert_refused((const char *[]){REQUIRED, "--env-file", "other.env", NULL},
                   "env_file: cannot read other.env: No such file or directory");
    write_env("FORGE_WORKERS=9\n");
    assert_int_equal(rename(".env", "other.env"), 0);
    assert_int_equal(load(APP_SERVE, (const char *[]){REQUIRED, "--env-file", "other.env", NULL}), FORGE_OK);
    assert_int_equal(config.rpc.workers, 9);
    app_config_done(&config);
}

static void test_config_bad_value_names_setting_value_source_and_range(void **state)
{
    assert_refused((const char *[]){REQUIRED, "--listen-port", "65536", NULL},
                   "listen_port: \"65536\" (from --listen-port) is not allowed: it must be 0 to 65535");
    assert_refused((const char *[]){REQUIRED, "--workers=-1", NULL},
                   "workers: \"-1\" (from --workers) is not allowed: it must be 1 to 500");
    assert_refused((const char *[]){REQUIRED, "--workers=99999999999999999999", NULL},
                   "workers: \"99999999999999999999\" (from --workers) is not allowed: it must be 1 to 500");
    assert_refused((const char *[]){REQUIRED, "--idle-timeout", "300", NULL},
                   "idle_timeout: \"300\" (from --idle-timeout) is not allowed: it must be 0ms to 24h (with ms, s, m or h)");
    assert_refused(
        (const char *[]){REQUIRED, "--reply-bytes-max", "1GiB", NULL},
        "reply_bytes_max: \"1GiB\" (from --reply-bytes-max) is not allowed: it must be 64KiB to 64MiB (bytes, or with KiB, MiB, GiB)");
    assert_refused((const char *[]){REQUIRED, "--mode", "test", NULL},
                   "mode: \"test\" (from --mode) is not allowed: it must be production or development");
    assert_int_equal(load(APP_ARCHIVE, (const char *[]){"--database-maint-url", "u", "--older-than", "90", NULL}), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.message, "older_than: \"90\" (from --older-than) is not allowed: it must be 1h to 36500d (with h or d)");
    setenv("FORGE_WORKERS", "many", 1);
    assert_refused((const char *[]){REQUIRED, NULL}, "workers: \"many\" (from FORGE_WORKERS) is not allowed: it must be 1 to 500");
    unsetenv("FORGE_WORKERS");
    write_env("FORGE_WORKERS=0\n");
    assert_refused((const char *[]){REQUIRED, NULL}, "workers: \"0\" (from .env line 1) is not allowed: it must be 1 to 500");
}

static void test_config_secret_value_is_never_shown(void **state)
{
    static char url[3000];
    memset(url, 'x', sizeof url - 1);
    assert_int_equal(load(APP_SERVE, (const char *[]){REQUIRED, "--database-url", url, NULL}), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.message, "database_url (from --database-url): allowed is text of at most 2000 bytes");
}

static void test_config_missing_setting_says_where_to_give_it(void **state)
{
    assert_refused((const char *[]){NULL},
                   "tls_certificate_file is not set: give --tls-certificate-file, or FORGE_TLS_CERTIFICATE_FILE in the "
                   "environment or in .env");
}

static void test_config_contradictions_are_refused(void **state)
{
    assert_refused((const char *[]){REQUIRED, "--workers=2", "--workers-interactive=2", NULL},
                   "workers_interactive: 2 must be less than workers (2)");
    assert_refused((const char *[]){REQUIRED, "--tls-client-auth=required", NULL},
                   "tls_client_auth needs tls_ca_file: the authorities of client certificates");
    assert_refused((const char *[]){REQUIRED, "--pending-bytes-max=4MiB", NULL},
                   "pending_bytes_max: 4194304 must be at least twice reply_bytes_max (4194304)");
}

static void test_config_unknown_flag_and_missing_value_are_refused(void **state)
{
    assert_refused((const char *[]){REQUIRED, "--lissen-port", "1", NULL}, "unknown flag --lissen-port; see --help");
    assert_refused((const char *[]){REQUIRED, "--ttl", "1m", NULL}, "unknown flag --ttl; see --help"); /* of another command */
    assert_refused((const char *[]){REQUIRED, "--workers", NULL}, "--workers needs a value");
    static const char *words_too_many[APP_WORDS_MAX + 2];
    for (int i = 0; i <= APP_WORDS_MAX; i++)
        words_too_many[i] = i == APP_WORDS_MAX ? "e" : "a";
    assert_refused(words_too_many, "unexpected word \"e\"; see --help");
}

static void test_config_words_may_be_negative_numbers(void **state)
{
    assert_int_equal(load(APP_MIGRATE, (const char *[]){"downgrade", "-1", "--database-owner-url=x", NULL}), FORGE_OK);
    assert_int_equal(words.count, 2);
    assert_string_equal(words.words[1], "-1");
    app_config_done(&config);
}

static void test_config_flags_of_one_run_take_no_value_and_no_environment(void **state)
{
    setenv("FORGE_VERBOSE", "true", 1);
    write_env("FORGE_SQL=true\n");
    assert_int_equal(load(APP_MIGRATE, (const char *[]){"revision", "-m", "-1 more", "--autogenerate", "now", NULL}), FORGE_OK);
    unsetenv("FORGE_VERBOSE");
    assert_string_equal(config.migrate_message, "-1 more");
    assert_true(config.migrate_autogenerate);
    assert_false(config.migrate_verbose || config.migrate_sql);
    assert_int_equal(words.count, 2);
    assert_string_equal(words.words[1], "now");
    app_config_done(&config);
    assert_int_equal(load(APP_MIGRATE, (const char *[]){"current", "-v", NULL}), FORGE_OK);
    assert_true(config.migrate_verbose);
    app_config_done(&config);
    assert_int_equal(load(APP_MIGRATE, (const char *[]){"current", "--verbose=false", NULL}), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.message, "--verbose takes no value");
    assert_int_equal(load(APP_MIGRATE, (const char *[]){"revision", "-m", NULL}), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.message, "-m needs a value");
    assert_refused((const char *[]){REQUIRED, "-v", NULL}, "unknown flag -v; see --help"); /* of another command */
}

static void test_config_reload_takes_only_reloadable_rows(void **state)
{
    struct app_config fresh;
    assert_int_equal(load(APP_SERVE, (const char *[]){REQUIRED, "--log-level=debug", "--workers=20", "--tls-key-file=new", NULL}),
                     FORGE_OK);
    fresh = config;
    assert_int_equal(load(APP_SERVE, (const char *[]){REQUIRED, NULL}), FORGE_OK);
    app_config_reload(&config, &fresh);
    assert_int_equal(config.log_level, 0);
    assert_string_equal(config.tls_key_file, "new");
    assert_int_equal(config.rpc.workers, 15);
    app_config_done(&config);
    app_config_done(&fresh);
}

/* .env.example holds every row: its meaning, and the default as a comment; and nothing that is no row. */
static void test_config_example_documents_every_row(void **state)
{
    char path[4096], *text = NULL, wanted[1024];
    size_t size = 0;
    snprintf(path, sizeof path, "%s/.env.example", getenv("FORGE_SOURCE_DIR"));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(getdelim(&text, &size, '\0', file) > 0);
    fclose(file);
    unsigned rows = 0, lines = 0;
    for (const struct app_setting *setting = app_settings; setting->name != NULL; setting++) {
        if (setting->variable == NULL)
            continue; /* on the command line only */
        rows++;
        snprintf(wanted, sizeof wanted, "\n# %s\n", setting->help);
        if (strstr(text, wanted) == NULL)
            fail_msg(".env.example lacks the meaning of %s:%s", setting->variable, wanted);
        /* the default folder depends on the install prefix */
        snprintf(wanted, sizeof wanted, "\n#%s=%s\n", setting->variable,
                 strcmp(setting->name, "migrations_folder") == 0 ? "/usr/local/share/promptforge/migrations" : setting->default_value);
        if (strstr(text, wanted) == NULL)
            fail_msg(".env.example lacks the line %s", wanted);
    }
    for (const char *line = text; line != NULL; line = strchr(line, '\n'), line = line != NULL ? line + 1 : NULL)
        lines += line[0] == '#' && line[1] != ' ' && line[1] != '\n';
    assert_int_equal(lines, rows);
    free(text);
}

static void test_config_names_of_rows_agree(void **state)
{
    for (const struct app_setting *setting = app_settings; setting->name != NULL; setting++) {
        char variable[128];
        assert_true(setting->help[strlen(setting->help) - 1] == '.');
        if (strcmp(setting->name, "ttl") == 0 || setting->variable == NULL)
            continue; /* forged bootstrap token --ttl; its variable says whose */
        snprintf(variable, sizeof variable, "%s%s", strncmp(setting->variable, "DATABASE_", 9) == 0 ? "" : "FORGE_", setting->name);
        for (char *c = variable; *c != '\0'; c++)
            *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
        assert_string_equal(setting->variable, variable);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, enter_folder, leave_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_config_defaults_are_as_the_table_says),
        TEST(test_config_flag_wins_over_environment_over_file),
        TEST(test_config_empty_value_means_the_default),
        TEST(test_config_ages_are_hours),
        TEST(test_config_named_file_must_exist),
        TEST(test_config_bad_value_names_setting_value_source_and_range),
        TEST(test_config_secret_value_is_never_shown),
        TEST(test_config_missing_setting_says_where_to_give_it),
        TEST(test_config_contradictions_are_refused),
        TEST(test_config_unknown_flag_and_missing_value_are_refused),
        TEST(test_config_words_may_be_negative_numbers),
        TEST(test_config_flags_of_one_run_take_no_value_and_no_environment),
        TEST(test_config_reload_takes_only_reloadable_rows),
        cmocka_unit_test(test_config_example_documents_every_row),
        cmocka_unit_test(test_config_names_of_rows_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
