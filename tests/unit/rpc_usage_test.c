/* The names of metrics in the database. */
#include "rpc/usage.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* prompt_reads for USAGE_METRIC_PROMPT_READS. */
static void test_every_metric_has_its_name(void **state)
{
    (void)state;
    const ProtobufCEnumDescriptor *type = &forge__v1__usage_metric__descriptor;
    const size_t prefix = strlen("USAGE_METRIC_");
    for (unsigned i = 0; i < type->n_values; i++) {
        char expected[64] = "";
        Forge__V1__UsageMetric metric = (Forge__V1__UsageMetric)type->values[i].value;
        for (size_t at = 0; type->values[i].name[prefix + at] != '\0'; at++)
            expected[at] = (char)tolower((unsigned char)type->values[i].name[prefix + at]);
        if (metric == FORGE__V1__USAGE_METRIC__USAGE_METRIC_UNSPECIFIED) {
            assert_null(rpc_usage_metric_name(metric));
            continue;
        }
        assert_string_equal(rpc_usage_metric_name(metric), expected);
        assert_int_equal(rpc_usage_metric_find(expected), metric);
    }
}

static void test_others_have_none(void **state)
{
    (void)state;
    assert_null(rpc_usage_metric_name((Forge__V1__UsageMetric)-1));
    assert_null(rpc_usage_metric_name((Forge__V1__UsageMetric)1000));
    assert_int_equal(rpc_usage_metric_find(""), FORGE__V1__USAGE_METRIC__USAGE_METRIC_UNSPECIFIED);
    assert_int_equal(rpc_usage_metric_find("call"), FORGE__V1__USAGE_METRIC__USAGE_METRIC_UNSPECIFIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_metric_has_its_name),
        cmocka_unit_test(test_others_have_none),
    };
    return cmocka_run_group_tests_name("rpc_usage", tests, NULL, NULL);
}
