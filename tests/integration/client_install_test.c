/* libforge as others meet it: installed to a prefix, found with pkg-config and find_package, included from C and C++. */
#include "support/forged_child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef SANITIZER_FLAGS
#define SANITIZER_FLAGS ""
#endif

static char prefix[256];
static const char *build, *source;

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A shell line in the prefix; it must succeed. */
static void run(const char *format, ...)
{
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    const char *const argv[] = {"-c", line, NULL};
    struct child_output output;
    child_run("/bin/sh", argv, NULL, prefix, &output);
    if (output.exit_code)
        fail_msg("%s\nended with %d:\n%s%s", line, output.exit_code, output.out, output.err);
    child_output_done(&output);
}

static int install(void **state)
{
    build = getenv("FORGE_BINARY_DIR");
    source = getenv("FORGE_SOURCE_DIR");
    snprintf(prefix, sizeof prefix, "%s/forge-install-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!build || !source || !mkdtemp(prefix))
        return -1;
    run("cmake --install '%s' --prefix '%s' --component client", build, prefix);
    return 0;
}

static int remove_prefix(void **state)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", prefix);
    return system(command);
}

static void test_pkg_config_builds_the_example(void **state)
{
    run("export PKG_CONFIG_PATH=$(dirname $(find '%s' -name forge.pc)); "
        "cc " SANITIZER_FLAGS " -Wall -Wextra -Werror '%s/client/examples/review_service.c' $(pkg-config --cflags --libs forge) "
        "-Wl,-rpath,$(pkg-config --variable=libdir forge) -o review_service && "
        "{ ./review_service 2>usage; test $? = 2; } && grep -q 'usage: review_service' usage && "
        "cc " SANITIZER_FLAGS " -Wall -Wextra -Werror '%s/client/examples/support_bot.c' $(pkg-config --cflags --libs forge) "
        "-Wl,-rpath,$(pkg-config --variable=libdir forge) -o support_bot && { ./support_bot 2>usage; test $? = 2; } && "
        "test \"$(pkg-config --modversion forge)\" = 0.1.0",
        prefix, source, source);
}

static void test_find_package_builds_the_example(void **state)
{
    run("mkdir -p project && cp '%s/client/examples/review_service.c' project/ && cat > project/CMakeLists.txt <<'END'\n"
        "cmake_minimum_required(VERSION 3.25)\n"
        "project(example C)\n"
        "find_package(forge 0.1 REQUIRED)\n"
        "add_executable(review_service review_service.c)\n"
        "target_link_libraries(review_service PRIVATE forge::forge)\n"
        "END\n"
        "cmake -S project -B project/build -DCMAKE_PREFIX_PATH='%s' -DCMAKE_C_FLAGS='" SANITIZER_FLAGS "' && "
        "cmake --build project/build && { project/build/review_service 2>usage; test $? = 2; }",
        source, prefix);
}

/* Each header alone, in both languages, with nothing but the installed tree and protobuf-c. */
static void test_headers_are_self_contained(void **state)
{
    run("cd include/promptforge && test -f forge/forge.h && test -f forge/v1/prompt.pb-c.h && test -f wire/status.h && "
        "for header in $(find . -name '*.h' | cut -c3-); do "
        "printf '#include \"%%s\"\\n' \"$header\" > ../../one.c && cp ../../one.c ../../one.cc && "
        "cc -std=c99 -Wall -Wextra -Werror -Wno-unused -fsyntax-only -I. ../../one.c && "
        "c++ -std=c++11 -Wall -Wextra -Werror -Wno-unused -fsyntax-only -I. ../../one.cc || exit 1; done");
}

static void test_library_exports_its_interface_only(void **state)
{
    run("library=$(find '%s' -name 'libforge.so.0.1.0') && readelf -d \"$library\" | grep -q 'SONAME.*libforge.so.0]' && "
        "nm -D --defined-only \"$library\" | awk '{print $3}' | grep -vE "
        "'^(forge_[a-z]|forge__v1__|google__protobuf__|_init$|_fini$|__odr_asan|__?[a-z]*san|$)' "
        "> exported; test ! -s exported || { cat exported; exit 1; }; "
        "nm -D --defined-only \"$library\" | grep -q ' forge_prompt_render_async$'",
        prefix);
}

static void test_forgectl_is_installed(void **state)
{
    run("LD_LIBRARY_PATH=$(dirname $(find '%s' -name libforge.so)) bin/forgectl version | grep -qx 'forgectl 0.1.0'", prefix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pkg_config_builds_the_example), cmocka_unit_test(test_find_package_builds_the_example),
        cmocka_unit_test(test_headers_are_self_contained),    cmocka_unit_test(test_library_exports_its_interface_only),
        cmocka_unit_test(test_forgectl_is_installed),
    };
    return cmocka_run_group_tests(tests, install, remove_prefix);
}
