/* How much of a link its socket holds. What the kernel has taken cannot be put behind anything else any more, and
 * what is on its way beyond what the path needs stands in queues: everybody's messages and leaves wait for it there,
 * and a short queue before a slow link drops it.
 *
 * TCP_NOTSENT_LOWAT is not enough: as long as the last segment has room, 64 KiB, the kernel takes more however much
 * waits already. So a link that is writable gives it one burst, and waits until it is writable again. Nor does it
 * bound what was sent and is not acknowledged: with links to ten machines, each of which fills the bottleneck, that
 * is ten times too much. Where the path is short the send buffer bounds both, at twice what was delivered in a round
 * trip and what keeps the sender busy; where it is long, or fast enough to need more, the kernel is left to judge.
 *
 * Sources: tcp(7), socket(7); BBR: Cardwell et al., ACM Queue 14(5), 2016, for the round trip without queues and the
 * rate of delivery as what a path is. */
#include <linux/tcp.h>
#include <stddef.h>
#include <sys/socket.h>

#include "io/link_private.h"

enum {
    UNSENT_BYTES = 16 << 10,
    BURST_BYTES = 32 << 10,
    HELD_LEAST_BYTES = 42 << 10,  /* a burst and a rest; from 48 on BBR's window bounds it */
    HELD_MOST_BYTES = 256 << 10,  /* who needs more is left alone */
    LOOK_EVERY_BYTES = 256 << 10, /* that the socket has taken */
    NEAR_US = 20000,              /* the least round trip */
};

void link_tune(int fd)
{
    int on = 1, unsent = UNSENT_BYTES;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

static void hold(struct link *l, size_t bytes)
{
    /* The kernel doubles what it is told, and counts a tenth more than the bytes. */
    int most = (int)(bytes * 9 / 16), unsent = (int)bytes;

    if (bytes > l->held_bytes - l->held_bytes / 8 && bytes < l->held_bytes + l->held_bytes / 8)
        return;
    if (setsockopt(l->fd, SOL_SOCKET, SO_SNDBUF, &most, sizeof(most)) < 0)
        return;
    (void)setsockopt(l->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    l->held_bytes = bytes;
}

void link_socket_let_go(struct link *l)
{
    int none = 0, large = 4 << 20;

    l->look_at = UINT64_MAX;
    if (l->held_bytes == 0)
        return;
    l->held_bytes = 0;
    /* Cut to what is allowed. */
    (void)setsockopt(l->fd, SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
#ifdef SO_BUF_LOCK
    (void)setsockopt(l->fd, SOL_SOCKET, SO_BUF_LOCK, &none, sizeof(none));
#else
    (void)none;
#endif
    link_tune(l->fd);
}

void link_socket_look(struct link *l)
{
    struct tcp_info i = { .tcpi_min_rtt = 0 };
    socklen_t len = sizeof(i);
    double path_bytes;
    size_t bytes;

    l->look_at = l->wired + LOOK_EVERY_BYTES;
    l->burst = BURST_BYTES;
    if (getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0 ||
        len < offsetof(struct tcp_info, tcpi_delivery_rate) + sizeof(i.tcpi_delivery_rate))
        return;
    if (i.tcpi_snd_mss > BURST_BYTES / 2) { /* loopback: no queue, few segments to acknowledge */
        l->burst = 2 * i.tcpi_snd_mss;
        link_socket_let_go(l);
        return;
    }
    if (i.tcpi_min_rtt > NEAR_US)
        return; /* as it seems: it may have been measured behind a queue */
    path_bytes = (double)i.tcpi_delivery_rate * i.tcpi_min_rtt / 1e6;
    bytes = HELD_LEAST_BYTES +
            (path_bytes < HELD_MOST_BYTES ? (size_t)(2 * path_bytes) : (size_t)HELD_MOST_BYTES);
    if (bytes < HELD_MOST_BYTES)
        hold(l, bytes);
    else
        link_socket_let_go(l);
}
