/* The tables that are made from the contract, and the rules written by hand, tell the same of every method. (lint.py methods compares
 * proto/README.md with the rules, column by column.) */
#include "auth/rules.h"
#include "forge/forge.h"
#include "rpc_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { NAME_SIZE = 128 };

static const ProtobufCServiceDescriptor *const services[] = {
    &forge__v1__control_service__descriptor, &forge__v1__organization_service__descriptor, &forge__v1__project_service__descriptor,
    &forge__v1__prompt_service__descriptor,  &forge__v1__evaluation_service__descriptor,   &forge__v1__trace_service__descriptor,
    &forge__v1__policy_service__descriptor,
};

typedef void (*method_check)(const char *name, const ProtobufCMethodDescriptor *descriptor);

/* Returns how many methods the contract has. */
static size_t for_each_method(method_check check)
{
    size_t count = 0;
    for (size_t i = 0; i < sizeof services / sizeof services[0]; i++) {
        for (unsigned j = 0; j < services[i]->n_methods; j++, count++) {
            char name[NAME_SIZE];
            snprintf(name, sizeof name, "%s/%s", services[i]->name, services[i]->methods[j].name);
            check(name, &services[i]->methods[j]);
        }
    }
    return count;
}

static void check_server_table(const char *name, const ProtobufCMethodDescriptor *descriptor)
{
    for (size_t i = 0; i < RPC_METHOD_COUNT; i++) {
        if (strcmp(rpc_methods[i].name, name) == 0) {
            assert_ptr_equal(rpc_methods[i].input, descriptor->input);
            assert_ptr_equal(rpc_methods[i].output, descriptor->output);
            assert_int_equal(rpc_method_find(name, strlen(name)), i);
            return;
        }
    }
    fail_msg("%s has no row in rpc_methods", name);
}

static void test_methods_of_the_contract_are_in_the_dispatch_table(void **state)
{
    assert_int_equal(for_each_method(check_server_table), RPC_METHOD_COUNT);
}

static void check_client_table(const char *name, const ProtobufCMethodDescriptor *descriptor)
{
    const struct forge_method *method = forge_method_find(name);
    if (!method)
        fail_msg("libforge has no %s", name);
    assert_string_equal(method->name, name);
    assert_ptr_equal(method->input, descriptor->input);
    assert_ptr_equal(method->output, descriptor->output);
}

static void test_methods_of_the_contract_are_in_libforge(void **state)
{
    size_t count = for_each_method(check_client_table);
    assert_non_null(forge_method_at(count - 1));
    assert_null(forge_method_at(count));
}

static void check_rule(const char *name, const ProtobufCMethodDescriptor *descriptor)
{
    const struct auth_rule *rule = auth_rule_find(name);
    const struct forge_method *method = forge_method_find(name);
    if (!rule)
        fail_msg("%s has no rule", name);
    if (method->needs_credential != (rule->access != AUTH_ACCESS_PUBLIC))
        fail_msg("%s: libforge and rules.c differ about the credential", name);
    if (method->writes != (rule->write != AUTH_READ))
        fail_msg("%s: libforge and rules.c differ about writing", name);
}

static void test_methods_of_the_contract_have_one_rule_each(void **state)
{
    assert_int_equal(for_each_method(check_rule), auth_rules_count);
    for (size_t i = 0; i < auth_rules_count; i++)
        assert_ptr_equal(auth_rule_find(auth_rules[i].method), &auth_rules[i]); /* none twice */
}

static void test_rules_make_sense(void **state)
{
    for (size_t i = 0; i < auth_rules_count; i++) {
        const struct auth_rule *rule = &auth_rules[i];
        bool is_sane = rule->timeout_ms >= 1000 && rule->timeout_ms <= 600000 && rule->request_max > 0 &&
                       rule->queue_class < AUTH_CLASS_COUNT && (!rule->slow || rule->way == AUTH_WAY_WORKER) &&
                       (rule->write == AUTH_READ || rule->way == AUTH_WAY_WORKER) &&
                       (!rule->ingest || rule->access == AUTH_ACCESS_DEVELOPER) &&
                       (rule->write != AUTH_WRITE_ONCE || rule->access != AUTH_ACCESS_PUBLIC);
        if (!is_sane)
            fail_msg("%s: its rule contradicts itself", rule->method);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_of_the_contract_are_in_the_dispatch_table),
        cmocka_unit_test(test_methods_of_the_contract_are_in_libforge),
        cmocka_unit_test(test_methods_of_the_contract_have_one_rule_each),
        cmocka_unit_test(test_rules_make_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
