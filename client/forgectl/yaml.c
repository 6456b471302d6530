/* JSON is YAML, so libyaml reads it; what it emits again in block style is YAML as people write it. */
#include "output.h"

#include <string.h>
#include <strings.h>
#include <yaml.h>

/* Would this word be read as a number, a truth value or nothing if it were not quoted? (YAML 1.1 and 1.2 core schemas.) */
static bool is_plain_text(const char *text)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"};
    if (!*text || strchr("0123456789+-.=<", *text))
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (!strcasecmp(text, words[i]))
            return false;
    return true;
}

static void restyle(yaml_event_t *event)
{
    if (event->type == YAML_MAPPING_START_EVENT)
        event->data.mapping_start.style = YAML_BLOCK_MAPPING_STYLE;
    if (event->type == YAML_SEQUENCE_START_EVENT)
        event->data.sequence_start.style = YAML_BLOCK_SEQUENCE_STYLE;
    if (event->type == YAML_DOCUMENT_START_EVENT)
        event->data.document_start.implicit = 1;
    if (event->type == YAML_DOCUMENT_END_EVENT)
        event->data.document_end.implicit = 1;
    if (event->type != YAML_SCALAR_EVENT)
        return;
    bool was_quoted = event->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    const char *text = (const char *)event->data.scalar.value;
    if (was_quoted && strchr(text, '\n'))
        event->data.scalar.style = YAML_LITERAL_SCALAR_STYLE;
    else if (was_quoted && is_plain_text(text))
        event->data.scalar.style = YAML_PLAIN_SCALAR_STYLE;
    event->data.scalar.plain_implicit = event->data.scalar.quoted_implicit = 1;
}

static bool copy_events(yaml_parser_t *parser, yaml_emitter_t *emitter)
{
    bool is_end = false;
    while (!is_end) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event))
            return false;
        is_end = event.type == YAML_STREAM_END_EVENT;
        restyle(&event);
        if (!yaml_emitter_emit(emitter, &event))
            return false;
    }
    return true;
}

bool yaml_print_json(const char *json, FILE *out)
{
    yaml_parser_t parser;
    yaml_emitter_t emitter;
    if (!yaml_parser_initialize(&parser))
        return false;
    bool ok = yaml_emitter_initialize(&emitter);
    if (ok) {
        yaml_parser_set_input_string(&parser, (const unsigned char *)json, strlen(json));
        yaml_emitter_set_output_file(&emitter, out);
        yaml_emitter_set_unicode(&emitter, 1);
        yaml_emitter_set_width(&emitter, -1);
        ok = copy_events(&parser, &emitter);
        yaml_emitter_delete(&emitter);
    }
    yaml_parser_delete(&parser);
    return ok;
}
