#include "world.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The node as a process of its own, so that it can be killed. */
static pid_t spawn_node(struct world *w)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct err err = ERR_INIT;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(region_main_loop(&w->options, &err) == 0 ? 0 : 1);
    }
    return pid;
}

static off_t size_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? st.st_size : -1;
}

static void flip(const char *path, off_t offset)
{
    unsigned char c;
    int fd;

    assert_int_equal(chmod(path, 0600), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &c, 1, offset), 1);
    c ^= 1;
    assert_int_equal(pwrite(fd, &c, 1, offset), 1);
    close(fd);
}

static void killed_while_it_replicates_it_goes_on(void **state)
{
    struct world w;
    struct player a = { .w = NULL };
    AUTO_BUF part = BUF_INIT;
    AUTO_BUF pack = BUF_INIT;
    AUTO_BUF ready = BUF_INIT;
    char hex[HASH_HEX];
    struct published big;
    AUTO_JSON *json = NULL;
    struct err err = ERR_INIT;
    int64_t port = 0;
    bool was_complete;
    int status = 0;
    pid_t pid;

    (void)state;
    world_init(&w);
    world_publish_bytes(&w, 5, 40 << 20, &big);
    buf_printf(&ready, "%s/ready", w.dir);
    w.options.ready_file = ready.data;
    hash_hex(&big.pack, hex);
    buf_printf(&part, "%s/partial/%s.part", w.data, hex);
    buf_printf(&pack, "%s/pack/%.2s/%s", w.origin_dir, hex, hex + 2);
    w.artifact = big;
    pid = spawn_node(&w);
    begin(&w, 1, 1);
    WORLD_UNTIL(&w, size_of(part.data) >= 8 << 20 || has_pack(&w, &big));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    was_complete = has_pack(&w, &big); /* on a machine that stalls us it may be */
    WORLD_UNTIL(&w, !w.control.open);
    got_forget(&w.control);

    /* What it has verified is not read from the origin again: there it is damaged by now. */
    if (!was_complete)
        flip(pack.data, 1000);
    tmpdir_remove(ready.data);
    pid = spawn_node(&w);
    begin(&w, 1, 1); /* the control plane says everything again */
    WORLD_UNTIL(&w, verified(&w));
    assert_true(has_pack(&w, &big));
    {
        AUTO_BUF text = BUF_INIT;

        WORLD_UNTIL(&w, path_exists(ready.data));
        assert_ok(file_read(&text, ready.data, 4096, &err), &err);
        assert_ok(json_parse(&json, text.data, text.len, &err), &err);
        assert_ok(json_get_int(json, "link", 1, 65535, &port, &err), &err);
    }
    w.port = (int)port;
    agent_start(&w, &a, "m1", "rack1");
    WORLD_UNTIL(&w, got_doc(&a, DOC_GOAL) >= 0);
    kill(pid, SIGTERM);
    WORLD_UNTIL(&w, a.link == NULL && !w.control.open);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    player_release(&a);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_while_it_replicates_it_goes_on),
    };

    return cmocka_run_group_tests_name("killed", tests, NULL, NULL);
}
