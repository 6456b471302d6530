/* What a stranger, a broken client and a wrong caller can send, over real TLS to a real server: each is refused with the code and the
 * message that belong to it, and leaves nothing behind. (Bad settings, schemas, ports and key files at the start: app_serve_test.c.) */
#include "support/raw_call.h"
#include "support/world.h"
#include "wire/clock.h"
#include "wire/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { MESSAGE_MAX = 4 << 20, UNPROVEN_MAX = 16 << 10, KEPT_MAX = 64 << 10 /* finished calls keep one small chunk each for the next */ };
#define ORGANIZATION "forge.v1.OrganizationService/"
#define PROJECT "forge.v1.ProjectService/"
#define PROMPT "forge.v1.PromptService/"
#define TEXT(literal) ((char *)(uintptr_t)(literal)) /* protobuf-c has char * for what it only reads */

static struct world world;

/* ---- asking ---- */

static void open_peer(struct raw_peer *peer)
{
    raw_peer_open(peer, forged_world_tls(world.files), world.servers[0].port);
}

static const char *violation_of(const Forge__V1__ReplyHeader *reply, const char *field)
{
    for (size_t i = 0; i < reply->n_details; i++) {
        const Forge__V1__BadRequest *bad =
            reply->details[i]->detail_case == FORGE__V1__ERROR_DETAIL__DETAIL_BAD_REQUEST ? reply->details[i]->bad_request : NULL;
        for (size_t j = 0; bad && j < bad->n_field_violations; j++) {
            if (strcmp(bad->field_violations[j]->field, field) == 0)
                return bad->field_violations[j]->description;
        }
    }
    return "";
}

/* The reply has this code and this in its message; with field, this about it instead. */
static void check_reply(const Forge__V1__ReplyHeader *reply, forge_code code, const char *field, const char *text)
{
    if (!reply)
        fail_msg("the connection ended; expected %s: %s", forge_code_name(code), text);
    const char *found = field ? violation_of(reply, field) : reply->message;
    if ((forge_code)reply->code != code || !strstr(found, text))
        fail_msg("%s: \"%s\" (%s: \"%s\"); expected %s: \"%s\"", forge_code_name((forge_code)reply->code), reply->message,
                 field ? field : "-", found, forge_code_name(code), text);
    if (code != FORGE_OK && (reply->n_details == 0 || reply->details[0]->detail_case != FORGE__V1__ERROR_DETAIL__DETAIL_ERROR_INFO))
        fail_msg("%s has no error_info", forge_code_name(code));
}

/* Sends a body on a connection of its own and frees it. */
static void expect_body(struct raw_bytes body, forge_code code, const char *field, const char *text)
{
    struct raw_peer peer;
    open_peer(&peer);
    assert_true(raw_send(&peer, &body));
    Forge__V1__ReplyHeader *reply = raw_receive(&peer);
    check_reply(reply, code, field, text);
    forge__v1__reply_header__free_unpacked(reply, NULL);
    raw_peer_close(&peer);
    free(body.data);
}

static void expect(const char *method, const char *token, const ProtobufCMessage *request, forge_code code, const char *field,
                   const char *text)
{
    struct raw_header header;
    raw_header_init(&header, method, token);
    expect_body(raw_envelope_of(&header, request), code, field, text);
}

/* A method without a request, sent with a header that is wrong. */
static void expect_header(const struct raw_header *header, forge_code code, const char *text)
{
    expect_body(raw_envelope(header, NULL, 0), code, NULL, text);
}

/* The server ends the connection without an answer. */
static void expect_close(const void *data, size_t size, unsigned within_ms)
{
    struct raw_peer peer;
    open_peer(&peer);
    raw_send_bytes(&peer, data, size);
    assert_true(link_raw_is_closed(&peer.link, within_ms));
    raw_peer_close(&peer);
}

static void check_answers(void)
{
    struct forge_error error = {0};
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    struct forge_channel *channel = world_channel(&world, 0, world.home.read_key);
    request.id = world.home.prompt_id;
    world_check(&world, "GetPrompt", forge_prompt_get(channel, NULL, &request, &prompt, &error), &error);
    assert_string_equal(prompt->content, "Hello {{name}}!");
    forge__v1__prompt__free_unpacked(prompt, NULL);
    forge_channel_close(channel);
}

/* ---- frames ---- */

static void test_bad_frames_close_the_connection(void **state)
{
    static const uint8_t huge[] = {0x80, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 1}, large[] = {0, 0, 0, 1, 0, 0, 0, 0, 0x80, 0, 0, 1};
    static const uint8_t small[] = {0, 0, 0, 0, 0, 0, 0, 3, 0x80, 0, 0}, endless[8 + 40] = {0, 0, 0, 0, 0, 0, 0, 40};
    expect_close(huge, sizeof huge, 2000);
    expect_close(large, sizeof large, 2000);
    expect_close(small, sizeof small, 2000);
    expect_close(endless, sizeof endless, 2000); /* no word of the stack has its high bit set */
}

static void test_cut_off_frames_end_with_their_connection(void **state)
{
    static const uint8_t head[] = {0, 0, 0, 0, 0, 0, 0, 100, 0x80, 0, 0, 1, 'F', 'R', 'G'};
    expect_close(head, sizeof head, 5000); /* body_timeout is 1 s here */
    for (size_t size = 1; size < sizeof head; size += 3) {
        struct raw_peer peer;
        open_peer(&peer);
        assert_true(raw_send_bytes(&peer, head, size));
        link_reset(peer.link.fd);
        peer.link.fd = -1;
        raw_peer_close(&peer);
    }
}

static void test_a_wrong_sp_header_closes_the_connection(void **state)
{
    static const uint8_t pub[] = {0, 'S', 'P', 0, 0, 0x20, 0, 0}, http[] = "GET / HTTP/1.1\r\n\r\n";
    const struct {
        const void *data;
        int size;
    } openings[] = {{pub, sizeof pub}, {http, sizeof http - 1}};
    for (size_t i = 0; i < 2; i++) {
        struct raw_peer peer;
        peer.context = link_raw_context(forged_world_tls(world.files), NULL);
        assert_true(link_raw_handshake(&peer.link, peer.context, world.servers[0].port, 0));
        SSL_write(peer.link.ssl, openings[i].data, openings[i].size);
        assert_true(link_raw_is_closed(&peer.link, 2000));
        raw_peer_close(&peer);
    }
}

static void test_oversized_messages_are_refused_by_size(void **state)
{
    struct raw_header header;
    struct raw_peer peer;
    uint8_t *filler = calloc(1, MESSAGE_MAX);
    assert_non_null(filler);
    raw_header_init(&header, "forge.v1.ControlService/Ping", NULL);
    expect_body(raw_envelope(&header, filler, UNPROVEN_MAX), FORGE_RESOURCE_EXHAUSTED, NULL,
                "the message is larger than 16384 bytes, the limit before the first verified credential of a connection");
    open_peer(&peer);
    raw_header_init(&header, ORGANIZATION "WhoAmI", world.home.read_key);
    struct raw_bytes body = raw_envelope(&header, NULL, 0);
    assert_true(raw_send(&peer, &body));
    Forge__V1__ReplyHeader *reply = raw_receive(&peer);
    check_reply(reply, FORGE_OK, NULL, "");
    forge__v1__reply_header__free_unpacked(reply, NULL);
    free(body.data);
    raw_header_init(&header, "forge.v1.ControlService/Ping", NULL);
    body = raw_envelope(&header, filler, MESSAGE_MAX);
    assert_true(raw_send(&peer, &body));
    reply = raw_receive(&peer);
    check_reply(reply, FORGE_RESOURCE_EXHAUSTED, NULL, "the message is larger than 4194304 bytes");
    forge__v1__reply_header__free_unpacked(reply, NULL);
    free(body.data);
    raw_peer_close(&peer);
    free(filler);
}

/* ---- envelopes and headers ---- */

static void test_bad_envelopes_are_named(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *text;
    } bodies[] = {
        {"", 0, "envelope: 0 bytes, shorter than its 8 byte prefix"},
        {"FRG1\0\0", 6, "envelope: 6 bytes, shorter than its 8 byte prefix"},
        {"FRG2\0\0\0\0", 8, "envelope: does not begin with FRG1"},
        {"GET / HTTP/1.1\r\n\r\n", 18, "envelope: does not begin with FRG1"},
        {"FRG1\0\0\0\x05\x0a\x01", 10, "envelope: header of 5 bytes is cut off after 2"},
        {"FRG1\0\0\x40\x01", 8, "envelope: header of 16385 bytes, at most 16384"},
        {"FRG1\xff\xff\xff\xff", 8, "envelope: header of 4294967295 bytes, at most 16384"},
        {"FRG1\0\0\0\x02\x0a\x7f", 10, "message is malformed"},
        {"FRG1\0\0\0\x04\x0a\x02\xc3\x28", 12, "method: must be valid UTF-8"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct raw_bytes body = {0};
        raw_bytes_add(&body, bodies[i].bytes, bodies[i].size);
        expect_body(body, FORGE_INVALID_ARGUMENT, NULL, bodies[i].text);
    }
}

static void test_unknown_methods_are_unimplemented(void **state)
{
    struct raw_header header;
    raw_header_init(&header, PROMPT "Nothing", world.home.read_key);
    expect_header(&header, FORGE_UNIMPLEMENTED, "unknown method \"forge.v1.PromptService/Nothing\"");
    raw_header_init(&header, "", NULL);
    expect_header(&header, FORGE_UNIMPLEMENTED, "unknown method \"\"");
}

static void test_wrong_header_fields_are_named(void **state)
{
    struct raw_header header;
    char long_text[1100], many[9000];
    Forge__V1__KeyValue pair = FORGE__V1__KEY_VALUE__INIT, *pairs[] = {&pair};
    memset(long_text, 'x', sizeof long_text);
    long_text[sizeof long_text - 1] = '\0';
    memset(many, 'x', sizeof many);
    many[sizeof many - 1] = '\0';
    raw_header_init(&header, long_text, NULL);
    expect_header(&header, FORGE_INVALID_ARGUMENT, "header: method has more than 128 bytes");
    raw_header_init(&header, "forge.v1.ControlService/Ping", long_text);
    expect_header(&header, FORGE_INVALID_ARGUMENT, "header: authorization has more than 256 bytes");
    raw_header_init(&header, "forge.v1.ControlService/Ping", NULL);
    header.header.timeout_us = -1;
    expect_header(&header, FORGE_INVALID_ARGUMENT, "header: timeout_us must not be negative");
    raw_header_init(&header, "forge.v1.ControlService/Ping", NULL);
    header.header.metadata = pairs;
    header.header.n_metadata = 1;
    pair.key = TEXT("Bad Key");
    expect_header(&header, FORGE_INVALID_ARGUMENT, "metadata[0].key must match [0-9a-z_.-]+");
    pair.key = TEXT("key");
    pair.value = many;
    expect_header(&header, FORGE_INVALID_ARGUMENT, "metadata has 9002 bytes, at most 8192");
    raw_header_init(&header, "forge.v1.ControlService/Ping", NULL);
    header.header.request_id.len = 15;
    expect_header(&header, FORGE_INVALID_ARGUMENT, "header: request_id must have 16 bytes, not 15");
}

static void test_an_expired_deadline_is_not_executed(void **state)
{
    struct raw_header header;
    struct raw_peer peer;
    raw_header_init(&header, PROMPT "GetPrompt", world.home.read_key);
    header.header.timeout_us = 1;
    struct raw_bytes body = raw_envelope(&header, NULL, 0);
    open_peer(&peer);
    assert_true(raw_send(&peer, &body));
    Forge__V1__ReplyHeader *reply = raw_receive(&peer);
    check_reply(reply, FORGE_DEADLINE_EXCEEDED, NULL, "the deadline");
    assert_true(reply->not_executed);
    forge__v1__reply_header__free_unpacked(reply, NULL);
    raw_peer_close(&peer);
    free(body.data);
}

/* ---- credentials ---- */

static void test_bad_credentials_are_unauthenticated(void **state)
{
    struct raw_header header;
    char token[WORLD_TOKEN_SIZE];
    raw_header_init(&header, PROMPT "GetPrompt", NULL);
    expect_header(&header, FORGE_UNAUTHENTICATED, "this method needs a credential");
    raw_header_init(&header, PROMPT "GetPrompt", "Bearer x");
    expect_header(&header, FORGE_UNAUTHENTICATED, "authorization is not a token of this server");
    memcpy(token, world.home.read_key, sizeof token);
    token[40] = token[40] == 'a' ? 'b' : 'a'; /* the checksum tells */
    raw_header_init(&header, PROMPT "GetPrompt", token);
    expect_header(&header, FORGE_UNAUTHENTICATED, "authorization is not a token of this server");
}

static void test_weak_credentials_are_denied(void **state)
{
    struct raw_header header;
    raw_header_init(&header, PROMPT "CreatePrompt", world.home.read_key);
    expect_header(&header, FORGE_PERMISSION_DENIED, "this method needs the role developer; the credential has the role viewer");
    raw_header_init(&header, ORGANIZATION "CreateApiKey", world.home.write_key);
    expect_header(&header, FORGE_PERMISSION_DENIED, "this method needs the role admin; the credential has the role developer");
    raw_header_init(&header, ORGANIZATION "CreateOrganization", world.home.session_token);
    expect_header(&header, FORGE_PERMISSION_DENIED, "this method needs an operator token");
    raw_header_init(&header, PROMPT "GetPrompt", world.operator_token);
    expect_header(&header, FORGE_PERMISSION_DENIED, "operator tokens may not call this method");
    raw_header_init(&header, PROMPT "GetPrompt", world.home.ingest_key);
    expect_header(&header, FORGE_PERMISSION_DENIED, "this method needs the role viewer");
    raw_header_init(&header, ORGANIZATION "Logout", world.home.admin_key);
    expect_header(&header, FORGE_PERMISSION_DENIED, "this method needs the session of a user");
}

static void test_wrong_password_and_unknown_user_are_one_answer(void **state)
{
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    request.email = world.home.email;
    request.password = TEXT("wrong horse");
    expect(ORGANIZATION "Login", NULL, &request.base, FORGE_UNAUTHENTICATED, NULL, "unknown e-mail or wrong password");
    request.email = TEXT("nobody@home.example");
    expect(ORGANIZATION "Login", NULL, &request.base, FORGE_UNAUTHENTICATED, NULL, "unknown e-mail or wrong password");
    request.password = TEXT("");
    expect(ORGANIZATION "Login", NULL, &request.base, FORGE_INVALID_ARGUMENT, "password", "must be 1 to 128 bytes");
}

static void test_a_revoked_key_is_refused_at_once(void **state)
{
    struct forge_error error = {0};
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    Forge__V1__CreateApiKeyRequest create = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__RevokeApiKeyRequest revoke = FORGE__V1__REVOKE_API_KEY_REQUEST__INIT;
    Forge__V1__WhoAmIRequest who = FORGE__V1__WHO_AM_IREQUEST__INIT;
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_READ;
    Forge__V1__ApiKey *key, *revoked;
    create.name = TEXT("to be revoked");
    create.scopes = &scope;
    create.n_scopes = 1;
    world_check(&world, "CreateApiKey", forge_organization_create_api_key(channel, NULL, &create, &key, &error), &error);
    expect(ORGANIZATION "WhoAmI", key->token, &who.base, FORGE_OK, NULL, "");
    revoke.id = key->id;
    world_check(&world, "RevokeApiKey", forge_organization_revoke_api_key(channel, NULL, &revoke, &revoked, &error), &error);
    expect(ORGANIZATION "WhoAmI", key->token, &who.base, FORGE_UNAUTHENTICATED, NULL, "revoked");
    forge__v1__api_key__free_unpacked(key, NULL);
    forge__v1__api_key__free_unpacked(revoked, NULL);
    forge_channel_close(channel);
}

/* ---- request ids ---- */

static void expect_request_id(const uint8_t id[16], const char *text)
{
    struct raw_header header;
    raw_header_init(&header, PROJECT "CreateProject", world.home.write_key);
    memcpy(header.request_id, id, sizeof header.request_id);
    expect_header(&header, FORGE_INVALID_ARGUMENT, text);
}

static void test_bad_request_ids_are_named(void **state)
{
    struct raw_header header;
    struct forge_uuid id;
    raw_header_init(&header, PROJECT "CreateProject", world.home.write_key);
    header.header.request_id.len = 0;
    expect_header(&header, FORGE_INVALID_ARGUMENT, "this method writes: the header needs a request_id (UUID version 7)");
    forge_uuid_v7(&id);
    id.bytes[6] = 0x40;
    expect_request_id(id.bytes, "request_id must be a UUID version 7");
    forge_uuid_v7(&id);
    id.bytes[0]--; /* 2^40 ms: 35 years ago */
    expect_request_id(id.bytes, "request_id is older than 24 hours");
    forge_uuid_v7(&id);
    id.bytes[0]++; /* 2^40 ms: 35 years ahead */
    expect_request_id(id.bytes, "request_id is more than 10 minutes ahead of this server's clock");
}

static void test_a_request_id_belongs_to_one_request(void **state)
{
    struct raw_header header;
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__CreatePromptRequest prompt = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    raw_header_init(&header, PROJECT "CreateProject", world.home.write_key);
    request.name = TEXT("made once");
    expect_body(raw_envelope_of(&header, &request.base), FORGE_OK, NULL, "");
    expect_body(raw_envelope_of(&header, &request.base), FORGE_OK, NULL, "");
    request.name = TEXT("made twice");
    expect_body(raw_envelope_of(&header, &request.base), FORGE_INVALID_ARGUMENT, NULL, "request_id was used before with another request");
    header.header.method = TEXT(PROMPT "CreatePrompt");
    prompt.project_id = world.home.project_id;
    prompt.name = prompt.content = TEXT("made once");
    expect_body(raw_envelope_of(&header, &prompt.base), FORGE_INVALID_ARGUMENT, NULL, "request_id was used before with another request");
    assert_int_equal(world_number(&world, "SELECT count(*) FROM projects WHERE name LIKE 'made %%'"), 1);
}

/* ---- fields ---- */

static void expect_payload(const char *method, const void *payload, size_t size, const char *field, const char *text)
{
    struct raw_header header;
    raw_header_init(&header, method, world.home.session_token);
    expect_body(raw_envelope(&header, payload, size), FORGE_INVALID_ARGUMENT, field, text);
}

static void test_malformed_payloads_are_named(void **state)
{
    expect_payload(PROJECT "CreateProject",
                   "\x0a\x05"
                   "ab",
                   4, NULL, "message is malformed");
    expect_payload(PROJECT "CreateProject", "\x0a\x02\xc3\x28", 4, "name", "must be valid UTF-8");
    expect_payload(PROJECT "CreateProject",
                   "\x0a\x03"
                   "a\0b",
                   5, "name", "NUL");
    expect_payload(PROJECT "CreateProject",
                   "\x0a\x04\xed\xa0\x80"
                   "a",
                   6, "name", "must be valid UTF-8");                                     /* a surrogate */
    expect_payload(PROJECT "CreateProject", "\x08\x01", 2, NULL, "message is malformed"); /* a number where text belongs */
    expect_payload(ORGANIZATION "CreateApiKey", "\x0a\x01k\x12\x01\x63", 6, "scopes[0]", "99 is not a value of Scope");
}

static void test_ids_and_names_are_checked(void **state)
{
    Forge__V1__GetPromptRequest get = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__CreateProjectRequest create = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    char name[257];
    get.id = TEXT("no-uuid");
    expect(PROMPT "GetPrompt", world.home.read_key, &get.base, FORGE_INVALID_ARGUMENT, "id", "must be a UUID");
    get.id = TEXT("");
    expect(PROMPT "GetPrompt", world.home.read_key, &get.base, FORGE_INVALID_ARGUMENT, "id",
           "either id, or project_id and name, is required");
    create.name = TEXT("");
    expect(PROJECT "CreateProject", world.home.write_key, &create.base, FORGE_INVALID_ARGUMENT, "name",
           "must be 1 to 255 printable characters");
    memset(name, 'n', 256);
    name[256] = '\0';
    create.name = name;
    expect(PROJECT "CreateProject", world.home.write_key, &create.base, FORGE_INVALID_ARGUMENT, "name",
           "must be 1 to 255 printable characters");
    name[255] = '\0';
    expect(PROJECT "CreateProject", world.home.write_key, &create.base, FORGE_OK, NULL, "");
}

static void test_a_page_token_belongs_to_its_query(void **state)
{
    struct forge_error error = {0};
    struct forge_channel *channel = world_channel(&world, 0, world.home.write_key);
    Forge__V1__ListPromptsRequest list = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__ListPromptsResponse *page;
    char id[WORLD_ID_SIZE];
    world_create_prompt(&world, channel, &world.home, "another", "Text", id);
    list.project_id = world.home.project_id;
    list.page_size = 1;
    world_check(&world, "ListPrompts", forge_prompt_list(channel, NULL, &list, &page, &error), &error);
    assert_string_not_equal(page->next_page_token, "");
    list.page_token = page->next_page_token;
    expect(PROMPT "ListPrompts", world.home.read_key, &list.base, FORGE_OK, NULL, "");
    list.name_prefix = TEXT("a");
    expect(PROMPT "ListPrompts", world.home.read_key, &list.base, FORGE_INVALID_ARGUMENT, "page_token", "belongs to another query");
    list.name_prefix = TEXT("");
    list.project_id = world.foreign.project_id;
    expect(PROMPT "ListPrompts", world.foreign.read_key, &list.base, FORGE_INVALID_ARGUMENT, "page_token", "is damaged");
    list.project_id = world.home.project_id;
    list.page_token = TEXT("no token");
    expect(PROMPT "ListPrompts", world.home.read_key, &list.base, FORGE_INVALID_ARGUMENT, "page_token", "is damaged");
    list.page_token = TEXT("");
    list.page_size = -1;
    expect(PROMPT "ListPrompts", world.home.read_key, &list.base, FORGE_INVALID_ARGUMENT, "page_size", "must not be negative");
    forge__v1__list_prompts_response__free_unpacked(page, NULL);
    forge_channel_close(channel);
}

static void test_foreign_projects_are_not_found(void **state)
{
    Forge__V1__ListPromptsRequest list = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__CreatePromptRequest create = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    Forge__V1__GetPromptRequest get = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__GetProjectRequest project = FORGE__V1__GET_PROJECT_REQUEST__INIT;
    Forge__V1__CreatePromptVersionRequest version = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    list.project_id = create.project_id = project.id = world.foreign.project_id;
    get.id = version.prompt_id = world.foreign.prompt_id;
    create.name = TEXT("intruder");
    create.content = version.content = TEXT("Text");
    expect(PROMPT "ListPrompts", world.home.session_token, &list.base, FORGE_NOT_FOUND, NULL, "not found");
    expect(PROMPT "CreatePrompt", world.home.session_token, &create.base, FORGE_NOT_FOUND, NULL, "not found");
    expect(PROMPT "GetPrompt", world.home.session_token, &get.base, FORGE_NOT_FOUND, NULL, "not found");
    expect(PROMPT "CreatePromptVersion", world.home.session_token, &version.base, FORGE_NOT_FOUND, NULL, "not found");
    expect(PROJECT "GetProject", world.home.session_token, &project.base, FORGE_NOT_FOUND, NULL, "not found");
    assert_int_equal(world_number(&world, "SELECT count(*) FROM prompts WHERE name = 'intruder'"), 0);
}

/* ---- PostgreSQL and the key file ---- */

static void expect_timed(const char *method, const ProtobufCMessage *request, uint32_t timeout_ms, forge_code code, const char *text)
{
    struct raw_header header;
    raw_header_init(&header, method, world.home.write_key);
    header.header.timeout_us = (int64_t)timeout_ms * 1000;
    expect_body(raw_envelope_of(&header, request), code, NULL, text);
}

static void test_calls_while_postgresql_is_away(void **state)
{
    Forge__V1__CreateProjectRequest create = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__PingRequest ping = FORGE__V1__PING_REQUEST__INIT;
    create.name = TEXT("while away");
    pg_cluster_pause(world.cluster);
    uint64_t begun_ms = forge_clock_monotonic_ms();
    expect_timed(PROJECT "CreateProject", &create.base, 500, FORGE_DEADLINE_EXCEEDED, "");
    assert_true(forge_clock_monotonic_ms() - begun_ms < 3000);
    expect_timed("forge.v1.ControlService/Ping", &ping.base, 500, FORGE_OK, "");
    pg_cluster_resume(world.cluster);
    assert_true(world_wait_ready(&world, 0, 10000));

    pg_cluster_stop(world.cluster);
    for (int i = 0; i < 3; i++) /* whichever notices it: a broken connection, the pool, the opener */
        expect_timed(PROJECT "CreateProject", &create.base, 2000, FORGE_UNAVAILABLE, "database");
    expect_timed("forge.v1.ControlService/Ping", &ping.base, 500, FORGE_OK, "");
    pg_cluster_start(world.cluster);
    assert_true(world_wait_ready(&world, 0, 10000));
    check_answers();
    assert_true(world_number(&world, "SELECT count(*) FROM projects WHERE name = 'while away'") <= 1);
}

static void test_a_server_with_another_key_file_refuses_what_it_cannot_check(void **state)
{
    char path[600];
    struct raw_header header;
    Forge__V1__CreateProjectRequest create = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__WhoAmIRequest who = FORGE__V1__WHO_AM_IREQUEST__INIT;
    create.name = TEXT("made under the first key");
    raw_header_init(&header, PROJECT "CreateProject", world.home.write_key);
    expect_body(raw_envelope_of(&header, &create.base), FORGE_OK, NULL, "");
    snprintf(path, sizeof path, "%s/other.key", forged_world_folder(world.files));
    FILE *file = fopen(path, "wx");
    assert_non_null(file);
    fprintf(file, "77 %064d\n", 4711); /* an id of its own: under a known one the server would not start */
    fclose(file);
    assert_int_equal(chmod(path, 0600), 0);
    const char *const flags[] = {"--key-file", "other.key", "--log-level", "warning", NULL};
    struct forged_child *other = forged_world_serve(world.files, flags);
    uint16_t port = world.servers[0].port;
    world.servers[0].port = forged_child_port(other);
    expect(ORGANIZATION "WhoAmI", world.home.write_key, &who.base, FORGE_OK, NULL, "");
    expect_body(raw_envelope_of(&header, &create.base), FORGE_INTERNAL, NULL, "internal error");
    assert_true(forged_child_wait_log(other, "which the key file does not hold")); /* for the operator, not for callers */
    world.servers[0].port = port;
    forged_child_stop(other);
    unlink(path);
    expect_body(raw_envelope_of(&header, &create.base), FORGE_OK, NULL, "");
}

/* ---- what is left ---- */

static void test_nothing_is_left_behind(void **state)
{
    check_answers();
    assert_true(world_is_at_rest(&world, 0, 5000));
    uint64_t until_ms = forge_clock_monotonic_ms() + 5000;
    while (world_metric(&world, 0, "forged_connections") > 0 && forge_clock_monotonic_ms() < until_ms)
        world_sleep_ms(20);
    assert_int_equal((int)world_metric(&world, 0, "forged_connections"), 0);
    assert_in_range((int)world_metric(&world, 0, "forged_request_memory_bytes"), 0, KEPT_MAX);
    char *log = forged_child_log(world.servers[0].child);
    assert_null(strstr(log, "level=error"));
    assert_null(strstr(log, "pfk_"));
    assert_null(strstr(log, "pfs_"));
    free(log);
}

static int set_up(void **state)
{
    static const char *const flags[] = {"--body-timeout", "1s", NULL};
    const struct world_options options = {.flags = flags};
    world_open(&world, &options);
    return 0;
}

static int tear_down(void **state)
{
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_frames_close_the_connection),
        cmocka_unit_test(test_cut_off_frames_end_with_their_connection),
        cmocka_unit_test(test_a_wrong_sp_header_closes_the_connection),
        cmocka_unit_test(test_oversized_messages_are_refused_by_size),
        cmocka_unit_test(test_bad_envelopes_are_named),
        cmocka_unit_test(test_unknown_methods_are_unimplemented),
        cmocka_unit_test(test_wrong_header_fields_are_named),
        cmocka_unit_test(test_an_expired_deadline_is_not_executed),
        cmocka_unit_test(test_bad_credentials_are_unauthenticated),
        cmocka_unit_test(test_weak_credentials_are_denied),
        cmocka_unit_test(test_wrong_password_and_unknown_user_are_one_answer),
        cmocka_unit_test(test_a_revoked_key_is_refused_at_once),
        cmocka_unit_test(test_bad_request_ids_are_named),
        cmocka_unit_test(test_a_request_id_belongs_to_one_request),
        cmocka_unit_test(test_malformed_payloads_are_named),
        cmocka_unit_test(test_ids_and_names_are_checked),
        cmocka_unit_test(test_a_page_token_belongs_to_its_query),
        cmocka_unit_test(test_foreign_projects_are_not_found),
        cmocka_unit_test(test_calls_while_postgresql_is_away),
        cmocka_unit_test(test_a_server_with_another_key_file_refuses_what_it_cannot_check),
        cmocka_unit_test(test_nothing_is_left_behind),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
