/*
 * Says again and again of which version it and its libraries are, and what it says when it is started anew. One library is loaded
 * when it is told to, another that cannot be brought to every node as well.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int base_version(void);

static void *load(const char *file, const char *told) {
    if (access(told, F_OK) != 0) return NULL;
    void *library = dlopen(file, RTLD_NOW);
    if (!library) exit(1);
    return library;
}

int main(int argc, char **argv) {
    int (*part)(void) = NULL;
    void *other = NULL;
    if (argc > 1) return printf("program %d base %d\n", VERSION, base_version()) < 0;
    for (;;) {
        void *library = part ? NULL : load("/usr/local/lib/libpart.so", "/data/load");
        if (library) part = (int (*)(void))dlsym(library, "version");
        if (!other) other = load("/usr/local/lib/sub/libother.so", "/data/load-other");
        FILE *file = fopen("/data/says", "w");
        fprintf(file, "program %d base %d part %d", VERSION, base_version(), part ? part() : 0);
        fclose(file);
        if (system("/usr/local/bin/parts anew > /data/anew")) exit(1);
        usleep(20000);
    }
}
