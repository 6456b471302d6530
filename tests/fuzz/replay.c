/* Runs a fuzz target over the files of a corpus, for builds without libFuzzer. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* False after printing why the file could not be read. */
static int replay_file(const char *path)
{
    struct stat info;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &info) != 0) {
        perror(path);
        return 0;
    }
    size_t size = (size_t)info.st_size;
    uint8_t *data = malloc(size ? size : 1); /* exactly as large as the input: a sanitizer sees reads behind it */
    int complete = data && fread(data, 1, size, file) == size;
    fclose(file);
    if (complete)
        LLVMFuzzerTestOneInput(data, size);
    else
        fprintf(stderr, "%s: cannot be read\n", path);
    free(data);
    return complete;
}

int main(int argc, char **argv)
{
    int count = 0;
    DIR *corpus = argc == 2 ? opendir(argv[1]) : NULL;
    if (!corpus) {
        fprintf(stderr, "usage: %s <corpus directory>\n", argv[0]);
        return 2;
    }
    for (struct dirent *entry; (entry = readdir(corpus));) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (!replay_file(path))
            return 1;
        count++;
    }
    closedir(corpus);
    printf("%d inputs\n", count);
    return count > 0 ? 0 : 1;
}
