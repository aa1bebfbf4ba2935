#include "log_file.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"

static int keep_end(const char *path, uint64_t size, struct err *err)
{
    AUTO_FREE char *old = mem_printf("%s.1", path);
    AUTO_FREE unsigned char *end = mem_alloc(LOG_FILE_KEEP);
    int fd, r;

    if (file_open_read(&fd, path, err) < 0)
        return -(int)err->code;
    r = fd_read_at(fd, end, LOG_FILE_KEEP, size - LOG_FILE_KEEP, err);
    close(fd);
    return r < 0 ? r : file_publish(old, end, LOG_FILE_KEEP, 0640, err);
}

int log_file_bound(const char *path, struct err *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "stat %s", path);
    if (st.st_size <= LOG_FILE_MAX)
        return 0;
    if (keep_end(path, (uint64_t)st.st_size, err) < 0) {
        /* A full disk must not keep the log from being cut. */
        if (truncate(path, 0) < 0)
            return err_sys(err, errno, "truncate %s", path);
        return err_wrap(err, "keep the end of the log");
    }
    return truncate(path, 0) < 0 ? err_sys(err, errno, "truncate %s", path) : 0;
}
