#include "policy/confine.h"

#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "base/mem.h"

/* The sanitizers' shadow memory takes terabytes of address space, and their reports many calls. */
#if defined(__SANITIZE_ADDRESS__)
enum { UNDER_SANITIZER = 1 };
#else
enum { UNDER_SANITIZER = 0 };
#endif

enum { MEMORY_BYTES = 768 << 20 };

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#endif

static void limit(__rlimit_resource_t what, rlim_t value)
{
    struct rlimit r = { value, value };
    (void)setrlimit(what, &r); /* a limit that is already lower is as good */
}

#ifdef OWN_ARCH
#define ALLOW_CALL(name)                                             \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)SYS_##name, 0, 1), \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void filter_calls(void)
{
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW_CALL(read),
        ALLOW_CALL(write),
        ALLOW_CALL(brk),
        ALLOW_CALL(mmap),
        ALLOW_CALL(munmap),
        ALLOW_CALL(mremap),
        ALLOW_CALL(madvise),
        ALLOW_CALL(futex),
        ALLOW_CALL(getrusage),
        ALLOW_CALL(prlimit64), /* lowers RLIMIT_CPU; no limit of ours can be raised by it */
        ALLOW_CALL(clock_gettime),
        ALLOW_CALL(rt_sigreturn),
        ALLOW_CALL(rt_sigprocmask), /* these four for abort() */
        ALLOW_CALL(gettid),
        ALLOW_CALL(getpid),
        ALLOW_CALL(tgkill),
        ALLOW_CALL(exit),
        ALLOW_CALL(exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1 /* EPERM */),
    };
    struct sock_fprog program = { (unsigned short)COUNT_OF(code), code };
    (void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
#else
static void filter_calls(void)
{
}
#endif

void confine_self(void)
{
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_NPROC, 0);
    limit(RLIMIT_NOFILE, 0);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (UNDER_SANITIZER)
        return;
    limit(RLIMIT_AS, MEMORY_BYTES);
    filter_calls();
}

void confine_cpu_seconds(unsigned seconds)
{
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used) < 0)
        return;
    rlim_t end = (rlim_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + seconds;
    struct rlimit r = { end, RLIM_INFINITY };
    (void)setrlimit(RLIMIT_CPU, &r);
}
