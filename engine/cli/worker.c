/* engine worker - builds what is queued, as a process. */
#include "build/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/flags.h"
#include "io/files.h"

struct worker_flags {
    struct worker_options o;
    const char *sandbox, *ready_file;
    struct texts hide;
    int64_t slots, parent_fd;
};

/* One descriptor that is readable when the worker is to stop: SIGTERM, SIGINT, or the parent's end. */
static int make_stop_fd(int parent_fd, struct err *err)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLHUP };
    int all = epoll_create1(EPOLL_CLOEXEC), signals;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (all < 0 || signals < 0 || epoll_ctl(all, EPOLL_CTL_ADD, signals, &event) < 0)
        return err_sys(err, errno, "watch signals");
    if (parent_fd >= 0 && epoll_ctl(all, EPOLL_CTL_ADD, parent_fd, &event) < 0)
        return err_sys(err, errno, "--parent-fd %d", parent_fd);
    return all;
}

static void publish_ready(void *ctx)
{
    const struct worker_flags *f = ctx;
    AUTO_FREE char *text = mem_printf("{\"pid\":%d}\n", (int)getpid());
    struct err err = ERR_INIT;

    if (f->ready_file != NULL && file_publish(f->ready_file, text, strlen(text), 0600, &err) < 0)
        log_error("%s", err.text);
}

static int work(struct worker_flags *f, struct err *err)
{
    if (f->o.db_url == NULL)
        f->o.db_url = getenv("ENGINE_DB");
    if (f->o.db_url == NULL || f->o.store == NULL || f->o.work == NULL)
        return err_set(err, ERR_INVALID, "--db (or ENGINE_DB), --store and --work are needed");
    if (f->sandbox != NULL && strcmp(f->sandbox, "none") == 0)
        f->o.sandbox = SANDBOX_OFF;
    else if (f->sandbox != NULL && strcmp(f->sandbox, "bwrap") != 0)
        return err_set(err, ERR_INVALID, "--sandbox is bwrap or none, not '%s'", f->sandbox);
    if (f->slots < 1 || f->slots > WORKER_SLOTS_MAX)
        return err_set(err, ERR_INVALID, "--slots is 1 to %d", WORKER_SLOTS_MAX);
    f->o.slots = (int)f->slots;
    f->o.hide = f->hide.items;
    f->o.nhide = (size_t)f->hide.count;
    f->o.ready = publish_ready;
    f->o.ctx = f;
    f->o.stop_fd = make_stop_fd((int)f->parent_fd, err);
    if (f->o.stop_fd < 0)
        return f->o.stop_fd;
    return worker_main_loop(&f->o, err);
}

int cli_worker(int argc, char **argv)
{
    struct worker_flags f = { .slots = 1, .parent_fd = -1 };
    const struct flag flags[] = {
        { "db", FLAG_TEXT, &f.o.db_url, "URL", "the database (or ENGINE_DB)" },
        { "store", FLAG_TEXT, &f.o.store, "DIR", "the origin store" },
        { "work", FLAG_TEXT, &f.o.work, "DIR", "mirrors and builds" },
        { "name", FLAG_TEXT, &f.o.name, "NAME", "for people (the host's name)" },
        { "slots", FLAG_INT, &f.slots, "N", "builds at once (1)" },
        { "sandbox", FLAG_TEXT, &f.sandbox, "bwrap|none", "how builds are isolated (bwrap)" },
        { "hide", FLAG_LIST, &f.hide, "DIR", "builds must not see it; repeatable" },
        { "ready-file", FLAG_TEXT, &f.ready_file, "FILE", "published once it claims" },
        { "parent-fd", FLAG_INT, &f.parent_fd, "N", "stop on EOF of this descriptor" },
    };
    const struct verb verb = { "worker --db URL --store DIR --work DIR",
                               "Claims jobs from the queue and builds them.",
                               flags,
                               COUNT_OF(flags),
                               0,
                               0 };
    struct err err = ERR_INIT;
    struct globals g;
    int operands, code, rv;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    log_setup("worker", 2);
    rv = work(&f, &err);
    free(f.hide.items);
    return rv < 0 ? fail(&g, &err) : EXIT_OK;
}
