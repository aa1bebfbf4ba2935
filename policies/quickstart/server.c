#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "request.h"

enum { CLIENTS_MAX = 64, ANSWER_MAX_BYTES = 8192, IDLE_SECONDS = 5, FIRST_CLIENT = 2 };

struct client {
    char request[REQUEST_MAX_BYTES + 1], answer[ANSWER_MAX_BYTES];
    size_t received, length, sent; /* length: of the answer; 0: still reading */
    time_t since;
};

/* polls[0] is stop_fd, polls[1] the listening socket, then one for each client. */
struct server {
    struct pollfd polls[FIRST_CLIENT + CLIENTS_MAX];
    struct client clients[CLIENTS_MAX];
};

static time_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

int server_listen(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 64) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void drop(struct server *s, int i)
{
    close(s->polls[FIRST_CLIENT + i].fd);
    s->polls[FIRST_CLIENT + i].fd = -1;
}

static void accept_client(struct server *s)
{
    int fd = accept4(s->polls[1].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (int i = 0; i < CLIENTS_MAX; i++) {
        if (s->polls[FIRST_CLIENT + i].fd >= 0)
            continue;
        memset(&s->clients[i], 0, sizeof(s->clients[i]));
        s->clients[i].since = now();
        s->polls[FIRST_CLIENT + i] = (struct pollfd){ .fd = fd, .events = POLLIN };
        return;
    }
    close(fd); /* full: the client may come back */
}

static void receive(struct server *s, int i)
{
    struct client *c = &s->clients[i];
    ssize_t n = recv(s->polls[FIRST_CLIENT + i].fd, c->request + c->received,
                     REQUEST_MAX_BYTES - c->received, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        drop(s, i);
        return;
    }
    c->received += n > 0 ? (size_t)n : 0;
    c->request[c->received] = 0;
    if (!request_is_complete(c->request, c->received) && c->received < REQUEST_MAX_BYTES)
        return;
    c->length = request_answer(c->request, c->answer, sizeof(c->answer));
    s->polls[FIRST_CLIENT + i].events = POLLOUT;
}

static void transmit(struct server *s, int i)
{
    struct client *c = &s->clients[i];
    ssize_t n =
        send(s->polls[FIRST_CLIENT + i].fd, c->answer + c->sent, c->length - c->sent, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    c->sent += n > 0 ? (size_t)n : 0;
    if (n <= 0 || c->sent == c->length)
        drop(s, i);
}

static void serve(struct server *s, int i)
{
    short events = s->polls[FIRST_CLIENT + i].revents;
    if (s->polls[FIRST_CLIENT + i].fd < 0)
        return;
    if (events & POLLIN)
        receive(s, i);
    else if (events & POLLOUT)
        transmit(s, i);
    else if (events != 0 || now() - s->clients[i].since > IDLE_SECONDS)
        drop(s, i);
}

void server_run(int listen_fd, int stop_fd)
{
    static struct server s;
    s.polls[0] = (struct pollfd){ .fd = stop_fd, .events = POLLIN };
    s.polls[1] = (struct pollfd){ .fd = listen_fd, .events = POLLIN };
    for (int i = 0; i < CLIENTS_MAX; i++)
        s.polls[FIRST_CLIENT + i].fd = -1;
    while (s.polls[0].revents == 0) {
        if (poll(s.polls, FIRST_CLIENT + CLIENTS_MAX, 1000) < 0 && errno != EINTR)
            return;
        for (int i = 0; i < CLIENTS_MAX; i++)
            serve(&s, i);
        if (s.polls[1].revents & POLLIN)
            accept_client(&s);
    }
}
