#include "apply.h"
#include "apply_fields.h"

#include <string.h>

enum { PAGE_SIZE = 1000 };

int apply_call(struct apply *apply, int method, const ProtobufCMessage *request, ProtobufCMessage **out_reply)
{
    ProtobufCMessage *reply;
    int code = cli_call(apply->cli, &forge_methods[method], request, &reply);
    if (code != CLI_OK)
        return code;
    *out_reply = field_message_copy(&apply->cli->arena, reply);
    cli_free(reply);
    return *out_reply ? CLI_OK : cli_fail(CLI_FAILED, "no memory for the answer");
}

int apply_list(struct apply *apply, int method, ProtobufCMessage *request, ProtobufCMessage ***out_items, size_t *out_count)
{
    ProtobufCMessage **items = NULL, *reply;
    size_t total = 0;
    field_set_number(request, "page_size", PAGE_SIZE);
    do {
        int code = apply_call(apply, method, request, &reply);
        if (code != CLI_OK)
            return code;
        size_t count;
        ProtobufCMessage *const *page = field_list(reply, NULL, &count);
        ProtobufCMessage **grown = forge_arena_calloc(&apply->cli->arena, total + count + 1, sizeof(*grown));
        if (!grown)
            return cli_fail(CLI_FAILED, "no memory for the answer");
        if (total)
            memcpy(grown, items, total * sizeof(*grown));
        if (count)
            memcpy(grown + total, page, count * sizeof(*grown));
        items = grown;
        total += count;
        field_set_text(request, "page_token", field_text(reply, "next_page_token"));
    } while (*field_text(request, "page_token"));
    *out_items = items;
    *out_count = total;
    return CLI_OK;
}
