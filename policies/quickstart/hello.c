/* hello - a small HTTP service to deploy: GET / says hello, GET /health says that it lives. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "server.h"

int main(void)
{
    const char *text = getenv("PORT");
    char *end = NULL;
    long port = text ? strtol(text, &end, 10) : 0;
    if (port < 1 || port > 65535 || *end != 0) {
        fprintf(stderr, "hello: PORT must be 1 to 65535\n");
        return 2;
    }
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    int stop_fd = signalfd(-1, &stop, SFD_CLOEXEC);
    int listen_fd = server_listen((int)port);
    if (stop_fd < 0 || listen_fd < 0) {
        fprintf(stderr, "hello: 127.0.0.1:%ld: %s\n", port, strerror(errno));
        return 1;
    }
    printf("hello: commit %s, on 127.0.0.1:%ld\n", VERSION, port);
    fflush(stdout);
    server_run(listen_fd, stop_fd);
    return 0;
}
