/* Everything of libforge in one header: channels (forge/channel.h), a typed call per RPC with the messages it takes and gives
 * (forge/calls.h and forge/v1), a cache of prompts (forge/prompt_cache.h), watches (forge/prompt_watch.h), a buffer of spans
 * (forge/span_buffer.h), which version of a split a subject gets (forge/split.h), status codes and errors (wire/status.h). For C and C++.
 */
#ifndef FORGE_FORGE_H
#define FORGE_FORGE_H

#include "forge/calls.h"
#include "forge/channel.h"
#include "forge/prompt_cache.h"
#include "forge/prompt_watch.h"
#include "forge/span_buffer.h"
#include "forge/split.h"
#include "wire/status.h"

#endif
