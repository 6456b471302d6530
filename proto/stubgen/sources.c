/* What other files say about the methods: which write, and their comments. */
#include "method.h"

#include "google/protobuf/descriptor.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 4096, CELLS_MAX = 16 };

static FILE *open_input(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        fprintf(stderr, "stubgen: %s: %s\n", path, strerror(errno));
    return file;
}

/* Cuts white space from both ends, in place. */
static char *trim(char *text)
{
    static const char white[] = " \t\r\n";
    text += strspn(text, white);
    size_t length = strlen(text);
    while (length > 0 && strchr(white, text[length - 1]))
        text[--length] = '\0';
    return text;
}

/* Splits "| a | b |" in place; the number of cells, 0 when it is not such a row. */
static size_t split_row(char *line, char *cells[CELLS_MAX])
{
    size_t count = 0;
    char *rest = trim(line);
    size_t length = strlen(rest);
    if (length < 2 || rest[0] != '|' || rest[length - 1] != '|')
        return 0;
    rest[length - 1] = '\0';
    rest++;
    for (char *cell; (cell = strsep(&rest, "|")) && count < CELLS_MAX;)
        cells[count++] = trim(cell);
    return count;
}

/* Where the columns are that we read; method is always the first. */
struct columns {
    size_t count, role, write;
};

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool read_columns(char *const cells[], size_t count, struct columns *columns)
{
    *columns = (struct columns){.count = count};
    for (size_t i = 1; i < count; i++) {
        if (starts_with(cells[i], "role"))
            columns->role = i;
        if (starts_with(cells[i], "write"))
            columns->write = i;
    }
    return columns->role && columns->write;
}

/* The cell's text without the back quotes of Markdown code. */
static char *unquote(char *cell)
{
    size_t length = strlen(cell);
    if (length >= 2 && cell[0] == '`' && cell[length - 1] == '`') {
        cell[length - 1] = '\0';
        cell++;
    }
    return cell;
}

/* What is wrong with the row, or NULL. */
static const char *read_method_row(struct method_list *list, char *cells[], const struct columns *columns)
{
    cells[0] = unquote(cells[0]);
    struct method *method = method_list_find(list, cells[0]);
    if (!method)
        return "not a method of any service";
    if (method->in_readme)
        return "has a second row";
    bool writes = strcmp(cells[columns->write], "yes") == 0;
    if (!writes && strcmp(cells[columns->write], "no") != 0)
        return "column write must be yes or no";
    if (!*cells[columns->role])
        return "column role is empty";
    method->in_readme = true;
    method->writes = writes;
    method->needs_credential = strcmp(cells[columns->role], "-") != 0;
    return NULL;
}

static bool check_all_listed(const struct method_list *list, const char *path)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!list->methods[i].in_readme) {
            fprintf(stderr, "%s: no row for %s\n", path, list->methods[i].full_name);
            return false;
        }
    }
    return true;
}

bool method_list_read_readme(struct method_list *list, const char *path)
{
    char line[LINE_MAX_BYTES], *cells[CELLS_MAX];
    struct columns columns = {0}; /* count 0: not in a table of methods */
    const char *fault = NULL;
    FILE *file = open_input(path);
    if (!file)
        return false;
    for (int number = 1; !fault && fgets(line, sizeof line, file); number++) {
        size_t count = split_row(line, cells);
        if (count == 0)
            columns.count = 0; /* the table ends */
        else if (strcmp(cells[0], "method") == 0)
            fault = read_columns(cells, count, &columns) ? NULL : "a table of methods needs the columns role and write";
        else if (columns.count == 0 || starts_with(cells[0], "---") || starts_with(cells[0], ":--"))
            continue;
        else if (count != columns.count)
            fault = "the row has more or fewer cells than its table";
        else
            fault = read_method_row(list, cells, &columns);
        if (fault)
            fprintf(stderr, "%s:%d: %s%s%s\n", path, number, count ? cells[0] : "", count ? ": " : "", fault);
    }
    fclose(file);
    return !fault && check_all_listed(list, path);
}

/* Reads the file whole; NULL after printing why not. */
static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = open_input(path);
    if (!file)
        return NULL;
    uint8_t *data = NULL;
    long length = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    rewind(file);
    if (length > 0 && (data = malloc((size_t)length)) && fread(data, 1, (size_t)length, file) != (size_t)length) {
        free(data);
        data = NULL;
    }
    if (!data)
        fprintf(stderr, "stubgen: %s: cannot be read\n", path);
    *size = (size_t)length;
    fclose(file);
    return data;
}

/* The comment before method m of service s: path 6, s, 2, m (SourceCodeInfo in descriptor.proto). */
static const char *find_comment(const Google__Protobuf__FileDescriptorProto *file, int service, int method)
{
    const Google__Protobuf__SourceCodeInfo *source = file->source_code_info;
    for (size_t i = 0; source && i < source->n_location; i++) {
        const Google__Protobuf__SourceCodeInfo__Location *location = source->location[i];
        if (location->n_path == 4 && location->path[0] == 6 && location->path[1] == service && location->path[2] == 2 &&
            location->path[3] == method)
            return location->leading_comments;
    }
    return NULL;
}

static void take_comments(struct method_list *list, const Google__Protobuf__FileDescriptorProto *file)
{
    for (size_t s = 0; s < file->n_service; s++) {
        for (size_t m = 0; m < file->service[s]->n_method; m++) {
            char full_name[METHOD_NAME_MAX];
            snprintf(full_name, sizeof full_name, "%s.%s/%s", file->package, file->service[s]->name, file->service[s]->method[m]->name);
            struct method *method = method_list_find(list, full_name);
            const char *comment = find_comment(file, (int)s, (int)m);
            if (method && comment)
                method->comment = strdup(comment);
        }
    }
}

bool method_list_read_comments(struct method_list *list, const char *path)
{
    size_t size;
    uint8_t *data = read_file(path, &size);
    if (!data)
        return false;
    Google__Protobuf__FileDescriptorSet *set = google__protobuf__file_descriptor_set__unpack(NULL, size, data);
    free(data);
    if (!set) {
        fprintf(stderr, "stubgen: %s: not a FileDescriptorSet\n", path);
        return false;
    }
    for (size_t i = 0; i < set->n_file; i++)
        take_comments(list, set->file[i]);
    google__protobuf__file_descriptor_set__free_unpacked(set, NULL);
    for (size_t i = 0; i < list->count; i++) {
        if (!list->methods[i].comment) {
            fprintf(stderr, "stubgen: %s has no comment in its .proto file\n", list->methods[i].full_name);
            return false;
        }
    }
    return true;
}
