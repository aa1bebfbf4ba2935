#include "io/port.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/sha256.h"

/* A listener anywhere makes it taken; connections in TIME_WAIT do not (SO_REUSEADDR). */
bool port_is_free(int port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_ANY),
                                .sin_port = htons((unsigned short)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    bool is_free;

    if (fd < 0)
        return false;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    is_free = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 1) == 0;
    close(fd);
    return is_free;
}

int port_choose(int wanted, const char *key, int *ret, struct err *err)
{
    struct hash h = sha256_of(key, strlen(key));
    unsigned count = PORT_LAST - PORT_FIRST + 1;
    unsigned start = ((unsigned)h.b[0] << 16 | (unsigned)h.b[1] << 8 | h.b[2]) % count;

    if (wanted > 0 && port_is_free(wanted)) {
        *ret = wanted;
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        int port = PORT_FIRST + (int)((start + i) % count);

        if (port != wanted && port_is_free(port)) {
            *ret = port;
            return 0;
        }
    }
    return err_set(err, ERR_LIMIT, "no free port from %d to %d", PORT_FIRST, PORT_LAST);
}

/* "HOST:PORT" or "[HOST]:PORT", numeric. Gives the result of getaddrinfo(), or NULL. */
static struct addrinfo *parse_address(const char *addr)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
    struct addrinfo *found = NULL;
    const char *colon = strrchr(addr, ':');
    size_t len = colon == NULL ? 0 : (size_t)(colon - addr);
    AUTO_FREE char *host = NULL;

    if (len == 0 || colon[1] == '\0')
        return NULL;
    if (addr[0] == '[' && addr[len - 1] == ']')
        host = mem_strndup(addr + 1, len - 2);
    else
        host = mem_strndup(addr, len);
    return getaddrinfo(host, colon + 1, &hints, &found) == 0 ? found : NULL;
}

static int bind_and_listen(int fd, const struct addrinfo *a, int backlog, int *ret_port)
{
    struct sockaddr_storage own;
    socklen_t len = sizeof(own);
    char port[16];
    int on = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, backlog) < 0 ||
        getsockname(fd, (struct sockaddr *)&own, &len) < 0)
        return -1;
    if (getnameinfo((struct sockaddr *)&own, len, NULL, 0, port, sizeof(port), NI_NUMERICSERV) == 0)
        *ret_port = (int)strtol(port, NULL, 10);
    return 0;
}

int port_listen(const char *addr, int backlog, int *ret_fd, int *ret_port, struct err *err)
{
    struct addrinfo *a = parse_address(addr);
    int rc = 0;

    *ret_port = 0;
    if (a == NULL)
        return err_set(err, ERR_INVALID, "listen on '%s': want HOST:PORT with a numeric host",
                       addr);
    *ret_fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*ret_fd < 0 || bind_and_listen(*ret_fd, a, backlog, ret_port) < 0)
        rc = err_sys(err, errno, "listen on %s", addr);
    freeaddrinfo(a);
    if (rc < 0 && *ret_fd >= 0) {
        close(*ret_fd);
        *ret_fd = -1;
    }
    return rc;
}
