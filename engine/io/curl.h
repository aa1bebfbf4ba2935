/* curl.h - libcurl, loaded when something is to be fetched by HTTP: it brings 25 other libraries along, and most
 * processes never ask for anything. Private to http.c.
 *
 *     struct curl curl;
 *     curl_load(&curl, CURL_LIBRARY, &err)    then curl.easy_init() is curl_easy_init(), and so on
 *
 * What is loaded stays until the process ends; loading it again costs a few look-ups. */
#ifndef IO_CURL_H
#define IO_CURL_H

#include <curl/curl.h>

#include "base/err.h"

#define CURL_LIBRARY "libcurl.so.4" /* of the curl.h that this was compiled with */

#define CURL_FUNCTIONS(X)  \
    X(easy_init)           \
    X(easy_cleanup)        \
    X(easy_setopt)         \
    X(easy_getinfo)        \
    X(easy_perform)        \
    X(easy_strerror)       \
    X(multi_init)          \
    X(multi_cleanup)       \
    X(multi_setopt)        \
    X(multi_assign)        \
    X(multi_add_handle)    \
    X(multi_remove_handle) \
    X(multi_socket_action) \
    X(multi_info_read)     \
    X(slist_append)        \
    X(slist_free_all)      \
    X(url)                 \
    X(url_cleanup)         \
    X(url_set)             \
    X(url_get)             \
    X(free)

struct curl {
#define CURL_MEMBER(name) __typeof__(&curl_##name) name;
    CURL_FUNCTIONS(CURL_MEMBER)
#undef CURL_MEMBER
};

/* library: a name as dlopen() takes it. -ERR_NOT_FOUND: it is not here, or lacks a function. */
MUST_CHECK int curl_load(struct curl *ret, const char *library, struct err *err);

#endif
