# forge_schema_revision(<migrations folder> <out.h>): the chain of revisions as the files' headers tell it, the first one first.
function(forge_schema_revision folder out)
    file(GLOB files CONFIGURE_DEPENDS "${folder}/*.up.sql")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${files})
    foreach(file IN LISTS files)
        file(STRINGS "${file}" revision REGEX "^-- revision: *[0-9a-f]+ *$" LIMIT_COUNT 1)
        file(STRINGS "${file}" revises REGEX "^-- revises:" LIMIT_COUNT 1)
        string(REGEX REPLACE "^-- revision: *([0-9a-f]*) *$" "\\1" revision "${revision}")
        string(REGEX REPLACE "^-- revises: *([0-9a-f]*) *$" "\\1" revises "${revises}")
        if(NOT revision MATCHES "^[0-9a-f]+$" OR NOT "${revises}" MATCHES "^[0-9a-f]*$")
            message(FATAL_ERROR "${file}: must open with `-- revision: <12 hex>` and `-- revises: <12 hex or nothing>`")
        endif()
        if(DEFINED "next_of_${revises}")
            message(FATAL_ERROR "${file}: another migration revises \"${revises}\" too")
        endif()
        set("next_of_${revises}" "${revision}")
    endforeach()
    list(LENGTH files file_count)
    set(chain "")
    set(count 0)
    set(newest "")
    while(DEFINED "next_of_${newest}" AND count LESS_EQUAL file_count)
        set(newest "${next_of_${newest}}")
        string(APPEND chain "    \"${newest}\",\n")
        math(EXPR count "${count} + 1")
    endwhile()
    if(NOT count EQUAL file_count OR count EQUAL 0)
        message(FATAL_ERROR "${folder}: the migrations are not one chain from a first one")
    endif()
    file(CONFIGURE OUTPUT "${out}" @ONLY CONTENT
"/* Generated from the headers of migrations/: do not edit. */
#ifndef SERVER_SCHEMA_REVISION_H
#define SERVER_SCHEMA_REVISION_H

#define SCHEMA_REVISION_COUNT @count@
#define SCHEMA_REVISION_NEWEST \"@newest@\"

static const char *const schema_revision_chain[SCHEMA_REVISION_COUNT] = {
@chain@};

#endif
")
endfunction()
