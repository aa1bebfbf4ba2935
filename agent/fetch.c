#include "fetch.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "fetch_write.h"
#include "fetched.h"
#include "io/enrol.h"
#include "io/files.h"
#include "io/interface.h"
#include "io/proc.h"
#include "io/work.h"
#include "peers.h"
#include "store/offenders.h"
#include "swarm/figures.h"
#include "uplink.h"
#include "wire/manifest.h"

enum { POOL_THREADS = 3, BUSY_MS = 5, UNITS = 1 << 20, MANIFEST_OFFER_MAX = 8 << 20 };

struct fetch {
    struct fetch_options o;
    char *dir, *listen_host;
    int lock_fd;
    struct loop *loop;
    struct work_pool *pool;
    struct link_identity *self;
    struct exchange *exchange;
    struct peers *peers;
    struct uplink *uplink;
    struct exchange_object manifest, index;
    struct pack_index *pack_index; /* NULL: it is not here yet */
    struct exchange_fetch pack;
    struct exchange_tally tally;
    uint64_t link_rate; /* of the interface towards the seed; 0: not known */
    struct writer *writer;
    int tries; /* to enrol */
    bool asked, staged, stopping, complete;
    struct timer tell, end;
    int64_t begun_ms, pack_ms, complete_ms, told_ms; /* pack_ms: all of it was verified */
    uint64_t told_bytes;
    struct err err; /* why it failed */
};

static void stop(struct fetch *f);

static void failed(struct fetch *f, const struct err *why)
{
    if (f->err.code == ERR_NONE)
        f->err = *why;
    stop(f);
}

/* ---- how well it goes ---- */

static void measure(const struct fetch *f, struct fetched *ret)
{
    const struct fetched_rates rates = { f->o.down_bytes, f->link_rate,
                                         exchange_best_rate(f->exchange) };
    int64_t end_ms = f->pack_ms > 0 ? f->pack_ms : loop_now_ms(f->loop);
    struct peers_edges edges = peers_edges(f->peers, &f->o.reference.pack);
    const char *banned[BANNED_MAX];
    size_t nbanned;

    *ret = (struct fetched){ .m = { .done = f->pack_ms > 0,
                                    .ms = (uint64_t)(end_ms - f->begun_ms),
                                    .edges = edges.named,
                                    .stale = edges.stale } };
    fetched_set(ret, &f->tally);
    nbanned = peers_banned(f->peers, &f->o.reference.pack, banned);
    for (size_t i = 0; i < nbanned; i++)
        fetched_banned(ret, banned[i]);
    fetched_rate(ret, &rates);
}

/* The seed adds up what all tell. */
static void say_progress(const struct fetch *f)
{
    struct msg_progress m = { .staged_bytes = f->pack.have_bytes,
                              .wanted_bytes = f->pack.total_bytes,
                              .seed_bytes = f->pack.seed_bytes,
                              .peer_bytes = f->pack.peer_bytes };
    struct fetched_room room;
    struct fetched now;

    if (f->uplink == NULL || f->pack.total_bytes == 0)
        return;
    measure(f, &now);
    fetched_tell(&now, &room, &m);
    if (uplink_send(f->uplink, MSG_PROGRESS, &m, NULL) < 0)
        log_debug("the seed is not told how far it is");
}

/* ---- the seed and the others ---- */

static void tracker_join(void *ctx, const struct hash *pack, const struct bytes *bitmap)
{
    struct fetch *f = ctx;
    struct msg_join m = { *pack, *bitmap };

    if (f->uplink != NULL && uplink_send(f->uplink, MSG_JOIN, &m, NULL) < 0)
        log_debug("the seed is not told: it will be when it is back");
}

static void tracker_leave(void *ctx, const struct hash *pack)
{
    struct fetch *f = ctx;
    struct msg_leave m = { *pack };

    if (f->uplink != NULL && uplink_send(f->uplink, MSG_LEAVE, &m, NULL) < 0)
        log_debug("the seed is not told: it sees the link end");
}

static void up(void *ctx, struct link *l)
{
    struct fetch *f = ctx;
    struct msg_machine m = { .boot = (char *)(uintptr_t)proc_boot_id(),
                             .host = f->listen_host,
                             .port = (uint16_t)peers_port(f->peers) };
    struct err err = ERR_INIT;

    if (link_send(l, MSG_MACHINE, &m, &err) < 0)
        log_warn("say where we are: %s", err.text);
    f->link_rate = interface_rate(link_peer_host(l));
    exchange_attach(f->exchange, l);
    if (exchange_bitmap(f->exchange, &f->o.reference.pack) == NULL) /* until the index is here */
        tracker_join(f, &f->o.reference.pack, &(struct bytes){ NULL, 0 });
    exchange_rejoin(f->exchange);
    if (f->uplink != NULL)
        say_progress(f);
}

static void from_seed(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct fetch *f = ctx;

    if (exchange_message(f->exchange, l, type, msg))
        return;
    if (type == MSG_PEERS)
        peers_set(f->peers, msg);
    else
        link_close(l, ERR_INVALID, "not a message of a seed");
}

static void seed_drained(void *ctx, struct link *l)
{
    exchange_drained(((struct fetch *)ctx)->exchange, l);
}

static void down(void *ctx, struct link *l)
{
    exchange_detach(((struct fetch *)ctx)->exchange, l);
}

static bool may_pass(enum err_code code)
{
    return code == ERR_UNREACHABLE || code == ERR_TIMEOUT || code == ERR_AGAIN ||
           code == ERR_CANCELLED;
}

/* Without a certificate there is nothing else to do: whoever waits is told soon that it does not come. */
static bool not_up(void *ctx, const struct err *why)
{
    struct fetch *f = ctx;
    struct err err = *why;

    if (link_identity_is_enrolled(f->self) ||
        (may_pass(why->code) && f->tries++ < FETCH_ENROL_AGAIN))
        return false;
    err_wrap(&err, "enrol at %s port %d", f->o.reference.host, f->o.reference.port);
    failed(f, &err);
    return true;
}

/* ---- what arrives ---- */

static void end_of_seeding(struct timer *t)
{
    stop(CONTAINER_OF(t, struct fetch, end));
}

static const char *rate_name(enum rate_from from)
{
    static const char *const names[] = { "none", "limit", "link", "observed" };

    return names[from];
}

/* "ratio":1.04,"rate":…,"rate_from":"limit",… */
static void measured_json(const struct fetched *m, struct buf *out)
{
    uint64_t ratio = figures_ratio(&m->m);

    if (ratio > 0)
        buf_printf(out, "\"ratio\":%.3f", (double)ratio / 1000);
    else
        buf_str_append(out, "\"ratio\":null");
    buf_printf(out,
               ",\"rate\":%llu,\"rate_from\":\"%s\",\"fetched_bytes\":%llu,"
               "\"fetch_seconds\":%.3f,\"stolen\":%u,\"doubled\":%u,\"useless\":%u,"
               "\"edges\":%u,\"stale_edges\":%u",
               (unsigned long long)m->m.rate, rate_name((enum rate_from)m->m.rate_from),
               (unsigned long long)m->m.bytes, (double)m->m.ms / 1000, m->m.stolen, m->m.doubled,
               m->m.useless, m->m.edges, m->m.stale);
}

/* "path":…,"bytes":…,"seconds":… */
static void fetched_json(const struct fetch *f, double seconds, struct buf *out)
{
    json_t *path = json_string_nocheck(f->o.to); /* what is not UTF-8 is not a string of JSON */
    char *text = path == NULL ? NULL : json_dumps(path, JSON_ENCODE_ANY);

    buf_printf(out,
               "\"path\":%s,\"bytes\":%llu,\"seed_bytes\":%llu,\"peer_bytes\":%llu,"
               "\"sent_bytes\":%llu,\"seconds\":%.3f",
               text == NULL ? "null" : text, (unsigned long long)f->pack.total_bytes,
               (unsigned long long)f->pack.seed_bytes, (unsigned long long)f->pack.peer_bytes,
               (unsigned long long)exchange_counts(f->exchange).sent_bytes, seconds);
    free(text);
    json_decref(path);
}

static void say(const struct fetch *f, const char *event)
{
    double seconds = (double)(f->complete_ms - f->begun_ms) / 1000;
    struct offenders o = offenders_of(f->exchange, f->self, peers_refused(f->peers));
    AUTO_BUF line = BUF_INIT;
    struct fetched m;

    measure(f, &m);
    if (f->o.json) {
        buf_printf(&line, "{\"v\":1,\"event\":\"%s\",", event);
        fetched_json(f, seconds, &line);
        buf_char(&line, ',');
        measured_json(&m, &line);
        buf_char(&line, ',');
        offenders_json(&line, &o);
        buf_char(&line, '}');
    } else {
        buf_printf(&line, "%s: %llu bytes in %.2f s", f->o.to,
                   (unsigned long long)f->pack.total_bytes, seconds);
        if (figures_ratio(&m.m) > 0)
            buf_printf(&line, ", %.2f x size/%s", (double)figures_ratio(&m.m) / 1000,
                       m.m.rate_from == RATE_LIMIT  ? "limit"
                       : m.m.rate_from == RATE_LINK ? "link's rate"
                                                    : "observed rate");
        buf_str_append(&line, offenders_any(&o) ? "; " : "");
        if (offenders_any(&o))
            offenders_text(&line, &o);
    }
    if (puts(line.data) < 0 || fflush(stdout) != 0)
        log_warn("nobody reads what is printed");
}

static void written(void *ctx, int status, const struct err *why)
{
    struct fetch *f = ctx;

    if (status < 0) {
        failed(f, why);
        return;
    }
    f->complete = true;
    f->complete_ms = loop_now_ms(f->loop);
    say_progress(f);
    say(f, "complete");
    if (f->o.seed_for_ms == 0)
        stop(f);
    else if (f->o.seed_for_ms > 0)
        timer_start(f->loop, &f->end, f->o.seed_for_ms, 0, end_of_seeding);
}

static void pack_done(struct exchange_fetch *p, int status)
{
    struct fetch *f = p->user;

    if (status >= 0)
        f->pack_ms = loop_now_ms(f->loop);
    if (status < 0)
        failed(f, &p->err);
    else if (f->writer != NULL)
        writer_fetched(f->writer);
}

/* The disk has changed what had come. */
static void lost(void *ctx, bool look)
{
    struct fetch *f = ctx;

    if (f->stopping)
        return;
    if (look)
        exchange_close(f->exchange, &f->o.reference.pack);
    exchange_fetch_start(f->exchange, &f->pack, &f->o.reference.pack, pack_done);
}

/* Once it is known where the bytes go. Nothing is wanted of a pack whose content an earlier run has put
 * in place: what is left of it there is given to others. */
static void fetch_pack(struct fetch *f)
{
    struct bitmap none = { 0 };
    struct err err = ERR_INIT;

    if (f->pack_index == NULL || !f->staged || f->stopping)
        return;
    if (writer_place(f->writer, f->pack_index, &f->pack.placed, &err) < 0) {
        failed(f, &err);
        return;
    }
    if (writer_is_complete(f->writer))
        exchange_fetch_some(f->exchange, &f->pack, &f->o.reference.pack, &none, pack_done);
    else
        exchange_fetch_start(f->exchange, &f->pack, &f->o.reference.pack, pack_done);
}

static void opened(void *ctx)
{
    struct fetch *f = ctx;

    f->staged = true;
    fetch_pack(f);
}

static void index_done(struct exchange_object *o, int status)
{
    struct fetch *f = o->user;
    struct err err = o->err;

    if (status == 0)
        status = pack_index_parse(&f->pack_index, o->out.data, o->out.len, &err);
    buf_release(&o->out);
    if (status < 0) {
        failed(f, &err);
        return;
    }
    fetch_pack(f);
}

static void manifest_done(struct exchange_object *m, int status)
{
    struct fetch *f = m->user;
    struct writer_options o = { .loop = f->loop,
                                .pool = f->pool,
                                .exchange = f->exchange,
                                .reference = &f->o.reference,
                                .dir = f->dir,
                                .to = f->o.to,
                                .opened = opened,
                                .lost = lost,
                                .done = written,
                                .ctx = f };

    if (status < 0) {
        failed(f, &m->err);
    } else {
        if (m->out.len <= MANIFEST_OFFER_MAX)
            exchange_offer(f->exchange, m->out.data, m->out.len);
        if (writer_start(&f->writer, &o, &m->out, &f->err) < 0)
            stop(f);
    }
    buf_release(&m->out);
}

/* ---- progress ---- */

static void tell(struct timer *t)
{
    struct fetch *f = CONTAINER_OF(t, struct fetch, tell);
    bool tty = isatty(STDERR_FILENO) == 1;
    int64_t now_ms = loop_now_ms(f->loop);
    double seconds = (double)(now_ms - f->told_ms) / 1000;
    uint64_t have = f->pack.have_bytes;

    if (!f->complete)
        say_progress(f);
    if (f->o.quiet || f->pack.total_bytes == 0 || (f->complete && f->told_bytes == have) ||
        seconds <= 0)
        return;
    fprintf(stderr, "%s%3.0f %%  %.1f of %.1f MiB  %.1f MiB/s  from peers %.0f %%%s",
            tty ? "\r\033[K" : "", 100 * (double)have / (double)f->pack.total_bytes,
            (double)have / UNITS, (double)f->pack.total_bytes / UNITS,
            (double)(have - f->told_bytes) / seconds / UNITS,
            100 * (double)f->pack.peer_bytes /
                (double)(f->pack.peer_bytes + f->pack.seed_bytes + 1),
            tty && !f->complete ? "" : "\n");
    f->told_bytes = have;
    f->told_ms = now_ms;
}

/* ---- life ---- */

static int open_dir(struct fetch *f, struct err *err)
{
    AUTO_FREE char *lock = NULL;

    f->dir = mem_printf("%s.slipway", f->o.to);
    lock = mem_printf("%s/lock", f->dir);
    if (path_exists(f->o.to) && !writer_was_done(f->dir))
        return err_set(err, ERR_EXISTS, "%s is there already: move it away, or give another --to",
                       f->o.to);
    if (dir_make(f->dir, 0700, err) < 0)
        return -(int)err->code;
    if (file_lock(&f->lock_fd, lock, err) < 0)
        return err_wrap(err, "another process fetches to %s", f->o.to);
    return 0;
}

static int become_member(struct fetch *f, struct err *err)
{
    AUTO_FREE char *identity = mem_printf("%s/identity", f->dir);
    const struct reference *r = &f->o.reference;
    struct enrol_options o = { .pin = r->pin };

    memcpy(o.secret, r->secret, SECRET_BYTES);
    return link_identity_enrol(&f->self, identity, "", &o, err);
}

static int open_exchange(struct fetch *f, struct err *err)
{
    AUTO_FREE char *packs = mem_printf("%s/packs", f->dir);
    struct exchange_options x = { .loop = f->loop,
                                  .pool = f->pool,
                                  .dir = packs,
                                  .join = tracker_join,
                                  .leave = tracker_leave,
                                  .ctx = f };
    struct peers_options p = { .loop = f->loop, .self = f->self, .listen = f->o.listen };
    const char *colon = strrchr(f->o.listen, ':');

    if (colon == NULL)
        return err_set(err, ERR_INVALID, "--listen %s: not ADDR:PORT", f->o.listen);
    f->listen_host = mem_strndup(f->o.listen, (size_t)(colon - f->o.listen));
    random_bytes(&x.seed, sizeof(x.seed));
    if (exchange_new(&f->exchange, &x, err) < 0)
        return -(int)err->code;
    exchange_limit(f->exchange, f->o.up_bytes, f->o.down_bytes);
    p.exchange = f->exchange;
    return peers_new(&f->peers, &p, err);
}

static void start(struct fetch *f)
{
    struct uplink_options o = { .loop = f->loop,
                                .self = f->self,
                                .host = f->o.reference.host,
                                .port = f->o.reference.port,
                                .early = true,
                                .up = up,
                                .message = from_seed,
                                .drained = seed_drained,
                                .down = down,
                                .failed = not_up,
                                .ctx = f };

    uplink_new(&f->uplink, &o);
    f->begun_ms = f->told_ms = loop_now_ms(f->loop);
    f->manifest.user = f->index.user = f->pack.user = f;
    f->asked = true;
    f->pack.tally = &f->tally;
    exchange_object_start(f->exchange, &f->manifest, &f->o.reference.artifact, MANIFEST_MAX_BYTES,
                          manifest_done);
    exchange_object_start(f->exchange, &f->index, &f->o.reference.pack, EXCHANGE_INDEX_MAX,
                          index_done);
    timer_start(f->loop, &f->tell, FETCH_TELL_MS, FETCH_TELL_MS, tell);
}

static void when_idle(struct timer *t)
{
    struct fetch *f = CONTAINER_OF(t, struct fetch, end);

    if (!exchange_is_busy(f->exchange) && (f->writer == NULL || !writer_is_busy(f->writer)))
        loop_stop(f->loop);
}

static void uplink_gone(void *ctx)
{
    struct fetch *f = ctx;

    timer_start(f->loop, &f->end, 0, BUSY_MS, when_idle);
}

static void peers_gone(void *ctx)
{
    struct fetch *f = ctx;

    uplink_close(f->uplink, uplink_gone);
}

static void stop(struct fetch *f)
{
    if (f->stopping)
        return;
    f->stopping = true;
    timer_stop(&f->end);
    timer_stop(&f->tell);
    tell(&f->tell);
    if (f->complete && f->o.json)
        say(f, "stopped");
    if (f->asked) {
        exchange_object_cancel(&f->manifest);
        exchange_object_cancel(&f->index);
    }
    exchange_fetch_cancel(&f->pack);
    if (f->writer != NULL)
        writer_stop(f->writer);
    peers_close(f->peers, peers_gone, f);
}

static void on_signal(void *arg, int signo)
{
    struct fetch *f = arg;

    (void)signo;
    if (!f->complete)
        err_set(&f->err, ERR_CANCELLED, "interrupted; the same command goes on from here");
    stop(f);
}

static int open_all(struct fetch *f, struct err *err)
{
    if (open_dir(f, err) < 0 || become_member(f, err) < 0 || loop_new(&f->loop, err) < 0 ||
        work_pool_new(&f->pool, f->loop, POOL_THREADS, err) < 0 || open_exchange(f, err) < 0 ||
        loop_on_signal(f->loop, SIGTERM, on_signal, f, err) < 0)
        return -(int)err->code;
    return loop_on_signal(f->loop, SIGINT, on_signal, f, err);
}

static void close_all(struct fetch *f)
{
    if (f->pool != NULL)
        work_pool_free(f->pool);
    buf_release(&f->manifest.out);
    buf_release(&f->index.out);
    writer_free(f->writer);
    pack_index_free(f->pack_index);
    uplink_free(f->uplink);
    peers_free(f->peers);
    exchange_free(f->exchange);
    link_identity_free(f->self);
    if (f->loop != NULL)
        loop_free(f->loop);
    if (f->complete && dir_remove(f->dir, &f->err) < 0)
        log_warn("%s", f->err.text);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    free(f->listen_host);
    free(f->dir);
}

int fetch_main_loop(const struct fetch_options *o, struct err *err)
{
    struct fetch f = { .o = *o, .lock_fd = -1 };
    int rv = open_all(&f, err);

    if (rv == 0) {
        start(&f);
        loop_run(f.loop);
    }
    if (rv == 0 && !f.complete) {
        *err = f.err;
        rv = -(int)f.err.code;
    }
    close_all(&f);
    return rv < 0 ? err_wrap(err, "fetch") : 0;
}
