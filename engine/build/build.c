#include "build/build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "build/git.h"
#include "build/program.h"
#include "io/files.h"
#include "io/proc.h"
#include "store/publish.h"

struct build {
    const struct build_site *site;
    const struct recipe *recipe;
    const char *folder;
    char *tag;
    struct lease *lease;
    struct courier *courier;
    json_t *artifacts;
};

static void say(struct build *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct build *b, const char *fmt, ...)
{
    AUTO_BUF text = BUF_INIT;
    va_list args;

    buf_str_append(&text, "== ");
    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    buf_char(&text, '\n');
    courier_log(b->courier, text.data, text.len);
}

char *build_tag(const char *folder)
{
    return mem_printf("SLIPWAY_BUILD=%s", folder);
}

/* Is this the build's own fault, or that of the world around it? */
static int blame(int r, struct err *err)
{
    if (r == -(int)ERR_INVALID || r == -(int)ERR_NOT_FOUND || r == -(int)ERR_LIMIT ||
        r == -(int)ERR_CONFLICT)
        err->code = ERR_BUILD;
    return -(int)err->code;
}

static int check_out(struct build *b, struct err *err)
{
    struct git_place place = { .mirrors = b->site->mirrors,
                               .sandbox = b->site->sandbox,
                               .lease = b->lease,
                               .tag = b->tag,
                               .log = courier_log,
                               .ctx = b->courier };
    int r;

    say(b, "checkout %.12s from %s", b->recipe->sha, b->recipe->repo);
    r = git_checkout(&place, b->recipe->repo, b->recipe->sha, b->folder, err);
    return r < 0 ? blame(r, err) : 0;
}

static void make_env(struct argv *env, struct build *b, const struct step *s,
                     const struct sandbox_view *view)
{
    AUTO_FREE char *home = sandbox_home(b->site->sandbox, view);
    AUTO_FREE char *tmp = sandbox_tmp(b->site->sandbox, view);

    argv_add(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    argv_addf(env, "HOME=%s", home);
    argv_addf(env, "TMPDIR=%s", tmp);
    argv_add(env, "LANG=C.UTF-8");
    argv_add(env, "CI=true");
    argv_addf(env, "SLIPWAY_SERVICE=%s", b->recipe->service);
    argv_addf(env, "SLIPWAY_COMMIT=%s", b->recipe->sha);
    argv_addf(env, "SLIPWAY_STEP=%s", s->name);
    for (char **pair = s->env; *pair != NULL; pair++)
        argv_set_env(env, *pair);
    argv_set_env(env, b->tag);
}

static int describe_end(int status, const struct step *s, struct err *err)
{
    AUTO_BUF text = BUF_INIT;

    if (status == 0)
        return 0;
    proc_status_text(&text, status);
    return err_set(err, ERR_BUILD, "step '%s': %s", s->name, text.data);
}

/* The lease's reasons stay what they are; the step's own limits are the build's fault. */
static int describe_stop(struct build *b, const struct step *s, struct err *err)
{
    if (lease_state(b->lease) != LEASE_HELD)
        return -(int)err->code;
    if (err->code == ERR_TIMEOUT || err->code == ERR_LIMIT || err->code == ERR_NOT_FOUND)
        err->code = ERR_BUILD;
    return err_wrap(err, "step '%s'", s->name);
}

static int run_step(struct build *b, const struct step *s, struct err *err)
{
    struct sandbox_view view = { .folder = b->folder, .dir = s->dir, .network = s->network };
    AUTO_FREE char *dir = mem_printf("%s/src/%s", b->folder, s->dir);
    AUTO_ARGV env = ARGV_INIT;
    AUTO_ARGV argv = ARGV_INIT;
    struct program p = { .tag = b->tag,
                         .lease = b->lease,
                         .timeout_ms = s->timeout_ms,
                         .silence_ms = s->silence_ms,
                         .max_output = s->max_log_bytes,
                         .max_file_bytes = b->recipe->max_output_bytes * 4,
                         .output = courier_log,
                         .ctx = b->courier };
    int64_t started = monotonic_ms();
    int status = 0;
    int r;

    if (!path_is_dir(dir))
        return err_set(err, ERR_BUILD, "step '%s': dir %s: no such directory", s->name, s->dir);
    say(b, "step '%s'", s->name);
    make_env(&env, b, s, &view);
    sandbox_wrap(&argv, b->site->sandbox, &view, s->argv);
    p.argv = argv.items;
    p.env = env.items;
    p.dir = b->site->sandbox->kind == SANDBOX_OFF ? dir : NULL;
    r = program_run(&p, &status, err);
    r = r < 0 ? describe_stop(b, s, err) : describe_end(status, s, err);
    if (r == 0)
        say(b, "step '%s' took %.1f s", s->name, (double)(monotonic_ms() - started) / 1000);
    return r;
}

/* An output is looked up after every process of the build is gone, so it cannot change under us. */
static int find_output(struct build *b, const struct output *o, struct buf *path, struct err *err)
{
    AUTO_FREE char *named = mem_printf("%s/src/%s", b->folder, o->path);
    AUTO_FREE char *src = mem_printf("%s/src", b->folder);
    AUTO_BUF root = BUF_INIT;
    char target[256];
    ssize_t n;

    if (path_real(&root, src, err) < 0)
        return -(int)err->code;
    if (path_real(path, named, NULL) < 0) {
        n = readlink(named, target, sizeof(target) - 1);
        if (n > 0) {
            target[n] = '\0';
            return err_set(err, ERR_BUILD,
                           "output '%s': %s: a link to %s, which is not in the checkout",
                           o->variant, o->path, target);
        }
        return err_set(err, ERR_BUILD,
                       "output '%s': %s: no such file (did the steps write it somewhere else?)",
                       o->variant, o->path);
    }
    if (strncmp(path->data, root.data, root.len) != 0 ||
        (path->data[root.len] != '/' && path->data[root.len] != '\0'))
        return err_set(err, ERR_BUILD, "output '%s': %s: a link that leaves the checkout",
                       o->variant, o->path);
    return 0;
}

static int go_on(void *lease, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return lease_check(lease, NULL);
}

static void add_artifact(struct build *b, const struct output *o, const struct published *p)
{
    json_t *a = json_object();

    json_object_set_new(a, "variant", json_string(o->variant));
    json_object_set_new(a, "artifact", json_hash(&p->artifact));
    json_object_set_new(a, "pack", json_hash(&p->pack));
    json_object_set_new(a, "bytes", json_integer((json_int_t)p->stream_bytes));
    json_object_set_new(a, "pack_bytes", json_integer((json_int_t)p->pack_bytes));
    json_object_set_new(a, "files", json_integer((json_int_t)p->files));
    json_array_append_new(b->artifacts, a);
}

static int pack_output(struct build *b, const struct output *o, struct err *err)
{
    struct publish_options options = { .max_bytes = b->recipe->max_output_bytes,
                                       .progress = go_on,
                                       .ctx = b->lease };
    struct published published;
    AUTO_BUF path = BUF_INIT;
    int r = find_output(b, o, &path, err);

    if (r < 0)
        return r;
    r = artifact_publish(b->site->store, path.data, &options, &published, err);
    if (r == -(int)ERR_CANCELLED && lease_check(b->lease, err) < 0)
        return -(int)err->code;
    if (r < 0) {
        (void)blame(r, err);
        return err_wrap(err, "output '%s'", o->variant);
    }
    add_artifact(b, o, &published);
    say(b, "output '%s': %llu files, %llu bytes, packed %llu", o->variant,
        (unsigned long long)published.files, (unsigned long long)published.stream_bytes,
        (unsigned long long)published.pack_bytes);
    return 0;
}

static int run_steps(struct build *b, struct err *err)
{
    int r = 0;

    for (size_t i = 0; i < b->recipe->nsteps && r == 0; i++)
        r = run_step(b, &b->recipe->steps[i], err);
    return r;
}

static int pack_outputs(struct build *b, struct err *err)
{
    int r = 0;

    for (size_t i = 0; i < b->recipe->noutputs && r == 0; i++)
        r = pack_output(b, &b->recipe->outputs[i], err);
    return r;
}

struct phase {
    const char *name;
    int (*run)(struct build *b, struct err *err);
};

static const struct phase phases[] = {
    { "checkout", check_out },
    { "steps", run_steps },
    { "pack", pack_outputs },
};

int build_run(const struct build_site *site, const struct recipe *recipe, const char *folder,
              struct lease *lease, struct courier *courier, char **ret_result, struct err *err)
{
    struct build b = { .site = site,
                       .recipe = recipe,
                       .folder = folder,
                       .tag = build_tag(folder),
                       .lease = lease,
                       .courier = courier,
                       .artifacts = json_array() };
    AUTO_JSON *result = json_object();
    json_t *seconds = json_object();
    int r = 0;

    *ret_result = NULL;
    for (size_t i = 0; i < COUNT_OF(phases) && r == 0; i++) {
        int64_t started = monotonic_ms();

        r = phases[i].run(&b, err);
        json_object_set_new(seconds, phases[i].name,
                            json_real((double)(monotonic_ms() - started) / 1000));
    }
    json_object_set_new(result, "v", json_integer(1));
    json_object_set_new(result, "artifacts", b.artifacts);
    json_object_set_new(result, "seconds", seconds);
    if (r == 0)
        *ret_result = json_text(result);
    free(b.tag);
    return r;
}
