/* Options that several groups of the command tree share. */
#ifndef FORGECTL_TREE_H
#define FORGECTL_TREE_H

#include "output.h"

#define PROJECT_OPTION                                                                                                                     \
    {                                                                                                                                      \
        .name = "project", .value = "ID|NAME", .help = "project (FORGE_PROJECT, then the context)"                                         \
    }
#define PAGE_OPTIONS                                                                                                                       \
    {.name = "page-size",                                                                                                                  \
     .value = "N",                                                                                                                         \
     .help = "most rows, 1 to 1000 (50)",                                                                                                  \
     .field = "page_size",                                                                                                                 \
     .take = CLI_TAKE_NUMBER,                                                                                                              \
     .least = 1,                                                                                                                           \
     .most = 1000},                                                                                                                        \
    {                                                                                                                                      \
        .name = "page-token", .value = "TOKEN", .help = "go on where the page before has ended", .field = "page_token"                     \
    }
/* The range of a listing or of figures. */
#define RANGE_OPTIONS                                                                                                                      \
    {.name = "since",                                                                                                                      \
     .value = "TIME",                                                                                                                      \
     .help = "only from this time on, such as 2026-11-28T00:00:00Z, or so long ago: 30m, 2h, 7d",                                          \
     .field = "start_time",                                                                                                                \
     .take = CLI_TAKE_TIME},                                                                                                               \
    {                                                                                                                                      \
        .name = "until", .value = "TIME", .help = "only before this time, or so long ago", .field = "end_time", .take = CLI_TAKE_TIME      \
    }
#define SELECTOR_OPTIONS                                                                                                                   \
    {.name = "version", .value = "N", .help = "this version instead of the current one"},                                                  \
        {.name = "label", .value = "NAME", .help = "the version this label points at"},                                                    \
        {.name = "as-of", .value = "TIME", .help = "as it was at this time, such as 2026-11-28T12:00:00Z"},                                \
    {                                                                                                                                      \
        .name = "subject", .value = "TEXT", .help = "whom a label with several versions is resolved for, e.g. a user"                      \
    }
#define ETAG_OPTION                                                                                                                        \
    {                                                                                                                                      \
        .name = "etag", .value = "ETAG", .help = "only if it is still what was read with this etag", .field = "etag"                       \
    }
#define YES_OPTION                                                                                                                         \
    {                                                                                                                                      \
        .name = "yes", .letter = 'y', .help = "do not ask"                                                                                 \
    }
#define DESCRIPTION_OPTION                                                                                                                 \
    {                                                                                                                                      \
        .name = "description", .value = "TEXT", .help = "what it is for", .field = "description"                                           \
    }

#endif
