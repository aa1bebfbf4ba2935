/* server.h - one process, one thread, one poll(2) loop. */
#ifndef SERVER_H
#define SERVER_H

/* Listens on 127.0.0.1:port. Returns the socket, or -1 with errno set. */
int server_listen(int port);

/* Serves until stop_fd becomes readable. A client that says nothing for 5 s is dropped. */
void server_run(int listen_fd, int stop_fd);

#endif
