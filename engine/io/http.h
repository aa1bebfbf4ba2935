/* http.h - an HTTP client, on libcurl: for the command line, CI, webhooks and health checks.
 *
 * libcurl is loaded when it is first needed: without it all but HTTP works, and who asks for HTTP
 * is told (-ERR_NOT_FOUND). Redirects are not followed; only http and https. Two ways: http_call()
 * blocks (command line, work pool); http_get_start() runs on the loop (an agent's health checks). A
 * proxy of the environment is used by http_call() for other hosts than this one, and never by
 * http_get_start(). */
#ifndef IO_HTTP_H
#define IO_HTTP_H

#include "base/buf.h"
#include "io/loop.h"

struct http_request {
    const char *method; /* "GET", "POST", … */
    const char *url;
    const char *token;  /* bearer token, or NULL */
    const char *body;   /* JSON, or NULL */
    int64_t timeout_ms; /* of the whole exchange; 0: none */
    size_t max_bytes;   /* of the answer's body */
};

/* *ret_status is the HTTP status; the body is appended to out (nothing on failure). -ERR_UNREACHABLE,
 * -ERR_TIMEOUT, -ERR_LIMIT (body longer than max_bytes), -ERR_INVALID (URL, method or token). */
MUST_CHECK int http_call(const struct http_request *r, int *ret_status, struct buf *out,
                         struct err *err);

/* Asynchronous GET on a connection of its own; done fires once on the loop: status < 0 is a failure
 * that err tells. A GET that runs must not move in memory. */
struct http_get {
    void (*done)(struct http_get *g, int status);
    struct err err;
    struct buf body;            /* at most 64 KiB is kept; released by the caller */
    struct http_client *client; /* private from here on */
    void *easy;
    struct list node;
};

struct http_client; /* one a loop */
struct http_client *http_client_new(struct loop *l);
void http_client_free(struct http_client *c); /* cancels what runs; allowed from a done() */
/* Gives g->err and g->body fresh values. -ERR_INVALID: the URL; -ERR_NOT_FOUND: no libcurl; done is
 * not called then. */
MUST_CHECK int http_get_start(struct http_client *c, struct http_get *g, const char *url,
                              int64_t timeout_ms, void (*done)(struct http_get *g, int status));
void http_get_cancel(struct http_get *g); /* no callback after this; harmless if it does not run */

#endif
