#include "request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool request_is_complete(const char *text, size_t len)
{
    return memmem(text, len, "\r\n\r\n", 4) != NULL || memmem(text, len, "\n\n", 2) != NULL;
}

static size_t answer(char *out, size_t size, const char *status, const char *body, bool head)
{
    int n = snprintf(out, size,
                     "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                     status, strlen(body), head ? "" : body);
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

/* The text that came with the program: share/index.txt of the release, wherever that lies. */
static void read_greeting(char *out, size_t size)
{
    char program[4096], path[4200];
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    program[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(program, '/');
        if (slash)
            *slash = 0;
    }
    snprintf(path, sizeof(path), "%s/share/index.txt", program);
    FILE *file = fopen(path, "r");
    out[file ? fread(out, 1, size - 1, file) : 0] = 0;
    if (file)
        fclose(file);
}

size_t request_answer(const char *request, char *out, size_t size)
{
    char method[8], path[1024], body[2048], greeting[1024];
    if (sscanf(request, "%7[A-Z] %1023s", method, path) != 2)
        return answer(out, size, "400 Bad Request", "not a request\n", false);
    bool head = strcmp(method, "HEAD") == 0;
    if (!head && strcmp(method, "GET") != 0)
        return answer(out, size, "405 Method Not Allowed", "only GET and HEAD\n", false);
    path[strcspn(path, "?")] = 0;
    if (strcmp(path, "/health") == 0) {
        snprintf(body, sizeof(body), "ok %s\n", VERSION);
        return answer(out, size, "200 OK", body, head);
    }
    if (strcmp(path, "/") == 0) {
        const char *machine = getenv("MACHINE");
        read_greeting(greeting, sizeof(greeting));
        snprintf(body, sizeof(body), "hello from %s, commit %s\n%s", machine ? machine : "here",
                 VERSION, greeting);
        return answer(out, size, "200 OK", body, head);
    }
    return answer(out, size, "404 Not Found", "no such page\n", head);
}
