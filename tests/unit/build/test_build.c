/* Real builds: SQLite, a directory as store, git repositories and real processes. */
#include "unit/build/fixture.h"

#include "store/publish.h"
#include "wire/json.h"

static void expect_failure(struct fixture *f, const char *steps, const char *outputs,
                           const char *failure, const char *reason)
{
    int64_t id = enqueue(f, steps, outputs);
    struct job *j = await(f, id, JOB_NONE);
    AUTO_FREE char *log = log_of(f, id);

    if (j->status != JOB_FAILED || strcmp(j->failure, failure) != 0 ||
        strstr(j->reason, reason) == NULL)
        fail_msg("%s: %s: %s: %s\n%s", steps, job_status_name(j->status), j->failure, j->reason,
                 log);
    assert_non_null(strstr(log, "== failed: "));
    job_free(j);
}

static void builds_a_commit(void **state)
{
    struct fixture *f = fixture_of(state);
    AUTO_FREE char *log = NULL;
    AUTO_JSON *result = NULL;
    struct store *store;
    struct hash artifact, pack;
    const json_t *a;
    struct job *j;
    int64_t id;

    test_repository_add(&f->repo, "src/main.txt", "hello\n");
    test_repository_commit(&f->repo);
    start_worker(f);
    id = enqueue(f,
                 SH("compile", "echo compiling; mkdir out; cp src/main.txt out/app") "," SH(
                     "check", "echo $SLIPWAY_SERVICE $SLIPWAY_COMMIT >&2; test -f out/app"),
                 "\"default\":\"out\",\"one\":\"./out/app\"");
    j = await(f, id, JOB_NONE);
    log = log_of(f, id);
    if (j->status != JOB_SUCCEEDED)
        fail_msg("%s\n%s", j->reason, log);
    assert_non_null(strstr(log, "== checkout "));
    assert_non_null(strstr(log, "== step 'compile'\ncompiling\n== step 'compile' took"));
    assert_non_null(strstr(log, "web "));
    assert_non_null(strstr(log, f->repo.sha));
    assert_ok(json_parse(&result, j->result, strlen(j->result), &f->err), &f->err);
    assert_int_equal(json_array_size(json_object_get(result, "artifacts")), 2);
    a = json_array_get(json_object_get(result, "artifacts"), 0);
    assert_ok(json_get_hash(a, "artifact", &artifact, &f->err), &f->err);
    assert_ok(json_get_hash(a, "pack", &pack, &f->err), &f->err);
    assert_int_equal(json_integer_value(json_object_get(a, "bytes")), 6);
    assert_int_equal(json_integer_value(json_object_get(a, "files")), 1);
    assert_true(json_is_real(json_object_get(json_object_get(result, "seconds"), "steps")));
    assert_ok(store_open(&store, f->store, &f->err), &f->err);
    assert_ok(artifact_verify(store, &artifact, &pack, NULL, &f->err), &f->err);
    store_close(store);
    job_free(j);
}

struct failing {
    const char *steps, *outputs, *failure, *reason;
};

/* What a build can do wrong, and what people are told. */
static void failures_have_reasons(void **state)
{
    static const struct failing cases[] = {
        { SH("ok", "mkdir out") "," SH("compile", "echo oops; exit 2"), OUT, "build",
          "step 'compile': exit status 2" },
        { SH("die", "kill -9 $$"), OUT, "build", "step 'die': " },
        { "{\"name\":\"hang\",\"run\":[\"sleep\",\"1000\"],\"silence\":1}", OUT, "build",
          "step 'hang': no output for 1 s" },
        { "{\"name\":\"loop\",\"run\":[\"sh\",\"-c\",\"while echo x; do sleep 0.1; done\"],"
          "\"timeout\":1,\"silence\":9}",
          OUT, "build", "step 'loop': ran longer than 1 s" },
        { "{\"name\":\"chat\",\"run\":[\"yes\"],\"max_log_bytes\":1000}", OUT, "build",
          "step 'chat': log over 1000 bytes" },
        { "{\"name\":\"chat\",\"run\":[\"yes\"],\"max_log_bytes\":1048576}", OUT, "build",
          "step 'chat': log over 1 MiB" },
        { "{\"name\":\"no\",\"run\":[\"no-such-program\"]}", OUT, "build", "step 'no': " },
        { "{\"name\":\"dir\",\"run\":[\"true\"],\"dir\":\"sub\"}", OUT, "build",
          "step 'dir': dir sub: no such directory" },
        { SH("ok", "mkdir other"), OUT, "build",
          "output 'default': out: no such file (did the steps write it somewhere else?)" },
        { SH("ok", "ln -s /etc out"), OUT, "build", "output 'default': out: a link that leaves" },
        { SH("ok", "ln -s /tmp/slipway/src/file out; touch file"), OUT, "build",
          "output 'default': out: a link to /tmp/slipway/src/file, which is not in" },
        { SH("ok", "mkdir out; ln -s ../../etc out/link"), OUT, "build", "output 'default': " },
        { SH("ok", "mkdir out; mkfifo out/fifo"), OUT, "build", "output 'default': " },
        { SH("ok", "mkdir out"), "", "build", "recipe: outputs: none" },
        { "7", OUT, "build", "recipe: step 1: not an object" },
    };
    struct fixture *f = *state;

    test_repository_commit(&f->repo);
    start_worker(f);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_failure(f, cases[i].steps, cases[i].outputs, cases[i].failure, cases[i].reason);
}

static void wrong_sources(void **state)
{
    struct fixture *f = *state;
    const char *real = f->repo.path;

    test_repository_commit(&f->repo);
    start_worker(f);
    snprintf(f->repo.sha, sizeof(f->repo.sha), "%040d", 7);
    expect_failure(f, SH("x", "true"), OUT, "build", "checkout: no commit '00000000000");
    f->repo.path = "/nowhere";
    expect_failure(f, SH("x", "true"), OUT, "build", "checkout: no directory /nowhere");
    f->repo.path = "ext::sh -c id";
    expect_failure(f, SH("x", "true"), OUT, "build", "protocol 'ext' is not allowed");
    f->repo.path = real;
}

struct probe {
    const char *script;
    const char *says;
};

/* What a step can see and touch. */
static void steps_are_isolated(void **state)
{
    static const struct probe probes[] = {
        { "ls -A /root /home /etc/ssh | grep -c '^[^/]' | xargs echo homes", "homes 0" },
        { "cat /etc/shadow 2>/dev/null | wc -c | xargs echo shadow", "shadow 0" },
        { "touch /usr/x 2>/dev/null || echo read-only", "read-only" },
        { "mount -o remount,rw / 2>/dev/null || echo no remount", "no remount" },
        { "echo $(grep -c : /proc/net/dev) interface", "1 interface" },
        { "ps -e -o comm= | wc -l | xargs echo processes", "processes" },
        { "echo $(ls /run | wc -l) in run", "0 in run" },
        { "pwd", "/tmp/slipway/src" },
        { "cd; pwd; touch here; ls", "/tmp/slipway/home" },
        { "echo home $HOME tmp $TMPDIR; touch $TMPDIR/x", "home /tmp/slipway/home tmp /tmp" },
        { "echo secret ${SLIPWAY_TEST_SECRET-unset}", "secret unset" },
    };
    struct fixture *f = *state;
    AUTO_BUF steps = BUF_INIT;
    AUTO_FREE char *log = NULL;
    struct job *j;
    int64_t id;

    setenv("SLIPWAY_TEST_SECRET", "x", 1);
    test_repository_commit(&f->repo);
    start_worker(f);
    for (size_t i = 0; i < COUNT_OF(probes); i++)
        buf_printf(&steps, "{\"name\":\"p%zu\",\"run\":[\"sh\",\"-c\",\"%s\"]},", i,
                   probes[i].script);
    buf_str_append(&steps, SH("out", "mkdir out"));
    id = enqueue(f, steps.data, OUT);
    j = await(f, id, JOB_NONE);
    log = log_of(f, id);
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        if (strstr(log, probes[i].says) == NULL)
            fail_msg("%s: not in\n%s", probes[i].says, log);
    }
    assert_int_equal(j->status, JOB_SUCCEEDED);
    job_free(j);
}

/* Directories that the operator hides, and those of the worker, outside /tmp. */
static void secrets_are_hidden(void **state)
{
    struct fixture *f = *state;
    char folder[] = "/var/tmp/slipway-test-XXXXXX";
    AUTO_FREE char *secret = NULL, *work = NULL, *store = NULL, *script = NULL, *log = NULL;
    const char *hide[1];
    struct job *j;
    int64_t id;

    assert_non_null(mkdtemp(folder));
    secret = mem_printf("%s/keys", folder);
    work = mem_printf("%s/work", folder);
    assert_ok(dir_make(secret, 0700, &f->err), &f->err);
    script = mem_printf("%s/root.key", secret);
    assert_ok(file_publish(script, "x", 1, 0644, &f->err), &f->err);
    free(script);
    hide[0] = secret;
    f->options.hide = hide;
    f->options.nhide = 1;
    f->options.work = work;
    store = mem_printf("%s/store", folder);
    f->options.store = store;
    test_repository_commit(&f->repo);
    start_worker(f);
    script = mem_printf("{\"name\":\"look\",\"run\":[\"sh\",\"-c\",\"echo [$(ls %s)] [$(ls %s)] "
                        "[$(ls %s)]; mkdir out\"]}",
                        secret, work, store);
    id = enqueue(f, script, OUT);
    j = await(f, id, JOB_NONE);
    log = log_of(f, id);
    if (j->status != JOB_SUCCEEDED || strstr(log, "[] [] []") == NULL)
        fail_msg("%s\n%s", j->reason, log);
    job_free(j);
    stop_worker(f);
    assert_ok(dir_remove(folder, &f->err), &f->err);
}

static const enum sandbox_kind kinds[] = { SANDBOX_BWRAP, SANDBOX_OFF };

static void daemons_die_with_their_build(void **state)
{
    struct fixture *f = *state;

    test_repository_commit(&f->repo);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        AUTO_FREE char *marker = mem_printf("9871%zu%d", i, (int)getpid());
        AUTO_FREE char *steps =
            mem_printf("{\"name\":\"spawn\",\"run\":[\"sh\",\"-c\",\"setsid sleep %s & "
                       "(setsid setsid sleep %s &) ; mkdir out; echo spawned\"]}",
                       marker, marker);
        struct job *j;

        f->options.sandbox = kinds[i];
        start_worker(f);
        j = await(f, enqueue(f, steps, OUT), JOB_NONE);
        assert_int_equal(j->status, JOB_SUCCEEDED);
        assert_false(runs(marker));
        job_free(j);
        stop_worker(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORKER(builds_a_commit),
        WITH_POSTGRES(builds_a_commit),
        WITH_WORKER(failures_have_reasons),
        WITH_WORKER(wrong_sources),
        WITH_WORKER(steps_are_isolated),
        WITH_WORKER(secrets_are_hidden),
        WITH_WORKER(daemons_die_with_their_build),
    };

    return cmocka_run_group_tests_name("build", tests, NULL, NULL);
}
