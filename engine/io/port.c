#include "io/port.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
