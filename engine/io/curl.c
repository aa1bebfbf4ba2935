#include "io/curl.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "base/mem.h"

static const struct function {
    const char *name;
    size_t at; /* of its pointer in struct curl */
} functions[] = {
#define CURL_ROW(name) { "curl_" #name, offsetof(struct curl, name) },
    CURL_FUNCTIONS(CURL_ROW)
#undef CURL_ROW
};

static int find_all(struct curl *ret, void *library, const char *name, struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(functions); i++) {
        void *found = dlsym(library, functions[i].name);

        if (found == NULL)
            return err_set(err, ERR_NOT_FOUND, "%s is too old: it has no %s()", name,
                           functions[i].name);
        memcpy((char *)ret + functions[i].at, &found, sizeof(found));
    }
    return 0;
}

int curl_load(struct curl *ret, const char *library, struct err *err)
{
    /* Never unloaded: it keeps what it was initialized with. */
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    int rc;

    if (handle == NULL)
        return err_set(err, ERR_NOT_FOUND, "HTTP needs libcurl, which cannot be loaded: %s",
                       dlerror());
    rc = find_all(ret, handle, library, err);
    dlclose(handle);
    return rc;
}
