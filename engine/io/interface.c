#include "io/interface.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"

/* To connect a datagram socket sends nothing, but chooses the address that it would send from. */
static bool address_towards(const char *host, struct sockaddr_storage *ret)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM }, *to = NULL;
    socklen_t len = sizeof(*ret);
    bool found = false;
    int fd;

    if (getaddrinfo(host, "9", &hints, &to) != 0)
        return false;
    fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        found = connect(fd, to->ai_addr, to->ai_addrlen) == 0 &&
                getsockname(fd, (struct sockaddr *)ret, &len) == 0;
        close(fd);
    }
    freeaddrinfo(to);
    return found;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr_storage *b)
{
    struct sockaddr_in x4, y4;
    struct sockaddr_in6 x6, y6;

    if (a == NULL || a->sa_family != b->ss_family)
        return false;
    if (a->sa_family == AF_INET) {
        memcpy(&x4, a, sizeof(x4));
        memcpy(&y4, b, sizeof(y4));
        return x4.sin_addr.s_addr == y4.sin_addr.s_addr;
    }
    if (a->sa_family != AF_INET6)
        return false;
    memcpy(&x6, a, sizeof(x6));
    memcpy(&y6, b, sizeof(y6));
    return memcmp(&x6.sin6_addr, &y6.sin6_addr, sizeof(x6.sin6_addr)) == 0;
}

/* A virtual interface has no device; what it says of its speed is made up. */
static uint64_t rate_of(const char *name)
{
    enum { SPEED_FILE_MAX = 32, MBIT = 1000000 / 8 };
    AUTO_FREE char *device = mem_printf("/sys/class/net/%s/device", name);
    AUTO_FREE char *speed = mem_printf("/sys/class/net/%s/speed", name);
    AUTO_BUF text = BUF_INIT;
    long mbit;

    if (!path_exists(device) || file_read(&text, speed, SPEED_FILE_MAX, NULL) < 0)
        return 0;
    mbit = strtol(buf_str(&text), NULL, 10);
    return mbit > 0 ? (uint64_t)mbit * MBIT : 0;
}

uint64_t interface_rate(const char *host)
{
    struct sockaddr_storage own;
    struct ifaddrs *all = NULL;
    uint64_t rate = 0;

    if (!address_towards(host, &own) || getifaddrs(&all) != 0)
        return 0;
    for (const struct ifaddrs *i = all; i != NULL && rate == 0; i = i->ifa_next) {
        if (same_address(i->ifa_addr, &own))
            rate = rate_of(i->ifa_name);
    }
    freeifaddrs(all);
    return rate;
}
