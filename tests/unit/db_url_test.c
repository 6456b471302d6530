#include "db/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword != NULL; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val;
    return NULL;
}

static void check_host(const char *url, const char *host, const char *database)
{
    struct forge_error error = {0};
    PQconninfoOption *options = NULL;
    if (db_url_parse(url, &options, &error) != FORGE_OK)
        fail_msg("%s: %s", url, error.message);
    assert_string_equal(value_of(options, "host"), host);
    assert_string_equal(value_of(options, "dbname"), database);
    PQconninfoFree(options);
}

static void check_refused(const char *url, const char *expected)
{
    struct forge_error error = {0};
    PQconninfoOption *options = NULL;
    assert_int_equal(db_url_parse(url, &options, &error), FORGE_INVALID_ARGUMENT);
    assert_null(options);
    if (strstr(error.message, expected) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", expected, error.message);
    assert_null(strstr(error.message, "secret"));
}

static void test_url_schemes_that_are_taken(void **state)
{
    check_host("postgresql://u:p@h:1/d", "h", "d");
    check_host("postgres://u:p@h:1/d", "h", "d");
    check_host("postgresql+asyncpg://u:p@h:1/d", "h", "d");
    check_host("postgresql+psycopg2://h/d?sslmode=require", "h", "d");
    check_host("host=h dbname=d", "h", "d");
    check_host("host=h dbname=d password=a://b", "h", "d");
    check_host("postgresql:///d?host=/run/postgresql", "/run/postgresql", "d");
}

static void test_url_other_schemes_are_named(void **state)
{
    check_refused("mysql://u:secret@h/d", "scheme \"mysql\"");
    check_refused("sqlite:///secret.db", "scheme \"sqlite\"");
    check_refused("mysql+pymysql://u:secret@h/d", "scheme \"mysql+pymysql\"");
    check_refused("postgresql+://u:secret@h/d", "scheme \"postgresql+\"");
    check_refused("postgres+x://u:secret@h/d", "scheme \"postgres+x\"");
    check_refused("POSTGRESQL://u:secret@h/d", "scheme \"POSTGRESQL\"");
    check_refused("http://secret", "only postgresql:// is supported");
}

static void test_url_that_cannot_be_read(void **state)
{
    check_refused(NULL, "is empty");
    check_refused("", "is empty");
    check_refused("postgresql://u:%zzsecret@h/d", "cannot be read");
    check_refused("postgresql://u:secret@h/d?nonsense=1", "cannot be read");
    check_refused("secret", "cannot be read");
    check_refused("://secret", "cannot be read");
}

static void test_url_long_scheme_is_cut_off(void **state)
{
    char url[5000];
    memset(url, 'a', sizeof(url));
    snprintf(url + sizeof(url) - 10, 10, "://h/d");
    check_refused(url, "scheme \"aaaa");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url_schemes_that_are_taken),
        cmocka_unit_test(test_url_other_schemes_are_named),
        cmocka_unit_test(test_url_that_cannot_be_read),
        cmocka_unit_test(test_url_long_scheme_is_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
