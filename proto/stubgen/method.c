#include "method.h"

#include "forge/v1/control.pb-c.h"
#include "forge/v1/evaluation.pb-c.h"
#include "forge/v1/organization.pb-c.h"
#include "forge/v1/policy.pb-c.h"
#include "forge/v1/project.pb-c.h"
#include "forge/v1/prompt.pb-c.h"
#include "forge/v1/trace.pb-c.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const ProtobufCServiceDescriptor *descriptor;
    const char *header;
} services[] = {
    {&forge__v1__control_service__descriptor, "forge/v1/control.pb-c.h"},
    {&forge__v1__evaluation_service__descriptor, "forge/v1/evaluation.pb-c.h"},
    {&forge__v1__organization_service__descriptor, "forge/v1/organization.pb-c.h"},
    {&forge__v1__policy_service__descriptor, "forge/v1/policy.pb-c.h"},
    {&forge__v1__project_service__descriptor, "forge/v1/project.pb-c.h"},
    {&forge__v1__prompt_service__descriptor, "forge/v1/prompt.pb-c.h"},
    {&forge__v1__trace_service__descriptor, "forge/v1/trace.pb-c.h"},
};
enum { SERVICE_COUNT = sizeof services / sizeof services[0] };

/* "policy" -> "policies", "prompt" -> "prompts". */
static void write_plural(const char *noun, char *plural, size_t size)
{
    size_t length = strlen(noun);
    if (length > 1 && noun[length - 1] == 'y' && !strchr("aeiou", noun[length - 2]))
        snprintf(plural, size, "%.*sies", (int)(length - 1), noun);
    else
        snprintf(plural, size, "%ss", noun);
}

/* Copies the next CamelCase word of *name in lower case; false at the end. */
static bool next_word(const char **name, char *word, size_t size)
{
    size_t length = 0;
    if (!**name)
        return false;
    do
        word[length++] = (char)tolower((unsigned char)*(*name)++);
    while (**name && !isupper((unsigned char)**name) && length < size - 1);
    word[length] = '\0';
    return true;
}

bool method_handler_name(const char *service, const char *method, char *handler)
{
    char noun[METHOD_NAME_MAX], plural[METHOD_NAME_MAX + 4], word[METHOD_NAME_MAX];
    const char *rest = service;
    size_t service_length = strlen(service), suffix_length = strlen("Service");
    bool named_service = service_length > suffix_length && strcmp(service + service_length - suffix_length, "Service") == 0;
    if (!named_service || service_length + strlen(method) * 2 >= METHOD_NAME_MAX || !next_word(&rest, noun, sizeof noun) ||
        strcmp(rest, "Service") != 0) {
        fprintf(stderr, "stubgen: %s/%s: the service must be named by one word and \"Service\"\n", service, method);
        return false;
    }
    write_plural(noun, plural, sizeof plural);
    size_t length = (size_t)sprintf(handler, "%s", noun);
    size_t words = 0;
    for (rest = method; next_word(&rest, word, sizeof word);) {
        if (strcmp(word, noun) == 0 || strcmp(word, plural) == 0)
            continue;
        length += (size_t)sprintf(handler + length, "_%s", word);
        words++;
    }
    if (words == 0)
        fprintf(stderr, "stubgen: %s/%s: nothing is left of its name without \"%s\"\n", service, method, noun);
    return words > 0;
}

static int compare_full_names(const void *a, const void *b)
{
    return strcmp(((const struct method *)a)->full_name, ((const struct method *)b)->full_name);
}

static bool check_unique(const struct method_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        for (size_t j = i + 1; j < list->count; j++) {
            if (strcmp(list->methods[i].handler, list->methods[j].handler) == 0) {
                fprintf(stderr, "stubgen: %s and %s would both be %s\n", list->methods[i].full_name, list->methods[j].full_name,
                        list->methods[i].handler);
                return false;
            }
        }
    }
    return true;
}

static bool add_method(struct method_list *list, size_t service, unsigned index)
{
    const ProtobufCServiceDescriptor *descriptor = services[service].descriptor;
    if (list->count == METHODS_MAX) {
        fprintf(stderr, "stubgen: more than %d methods\n", METHODS_MAX);
        return false;
    }
    struct method *method = &list->methods[list->count++];
    *method = (struct method){.service = descriptor, .descriptor = &descriptor->methods[index], .header = services[service].header};
    int length = snprintf(method->full_name, sizeof method->full_name, "%s/%s", descriptor->name, method->descriptor->name);
    if (length >= METHOD_NAME_MAX) {
        fprintf(stderr, "stubgen: %s/%s: name of more than %d bytes\n", descriptor->name, method->descriptor->name, METHOD_NAME_MAX - 1);
        return false;
    }
    if (!method_handler_name(descriptor->short_name, method->descriptor->name, method->handler))
        return false;
    for (size_t i = 0; method->handler[i]; i++)
        method->constant[i] = (char)toupper((unsigned char)method->handler[i]);
    return true;
}

bool method_list_collect(struct method_list *list)
{
    list->count = 0;
    for (size_t s = 0; s < SERVICE_COUNT; s++)
        for (unsigned i = 0; i < services[s].descriptor->n_methods; i++)
            if (!add_method(list, s, i))
                return false;
    qsort(list->methods, list->count, sizeof list->methods[0], compare_full_names);
    return check_unique(list);
}

struct method *method_list_find(struct method_list *list, const char *full_name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->methods[i].full_name, full_name) == 0)
            return &list->methods[i];
    return NULL;
}

const char *method_input_type(const struct method *method)
{
    return method->descriptor->input->c_name;
}

const char *method_output_type(const struct method *method)
{
    return method->descriptor->output->c_name;
}

void method_descriptor_symbol(const ProtobufCMessageDescriptor *type, char symbol[METHOD_SYMBOL_MAX])
{
    /* As protoc-gen-c does it: "_" before each capital that follows a lower-case letter. A difference would not compile. */
    size_t length = 0;
    bool after_capital = true;
    for (const char *c = type->c_name; *c && length < METHOD_SYMBOL_MAX - 16; c++) {
        bool capital = isupper((unsigned char)*c);
        if (capital && !after_capital)
            symbol[length++] = '_';
        symbol[length++] = (char)tolower((unsigned char)*c);
        after_capital = capital || *c == '_';
    }
    snprintf(symbol + length, METHOD_SYMBOL_MAX - length, "__descriptor");
}

void method_list_print_includes(const struct method_list *list, FILE *out)
{
    for (size_t s = 0; s < SERVICE_COUNT; s++)
        fprintf(out, "#include \"%s\"\n", services[s].header);
}
