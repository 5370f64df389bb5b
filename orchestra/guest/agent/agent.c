// agent.c: serves the host's requests on Linux: each is a command for /bin/sh, its output is the answer.
//
// An inspect's output goes out as reports, an advance's as outputs, as it arrives and in order. Exit status 0
// accepts, any other rejects. A request ends when the shell has exited and nobody holds its output any more;
// where a background process still does, when that has been silent for QUIET_MILLISECONDS of the guest's
// time.
#define ORCHESTRA_LINUX 1
#include "linux.h"

enum { CHUNK_BYTES = 65536, QUIET_MILLISECONDS = 100 };
enum { LONGEST_ARGUMENT = 131072 - 1 }; // Linux: MAX_ARG_STRLEN, with its final zero

struct agent {
    char *const *environment;
    char command[ORCHESTRA_BUFFER_BYTES + 1]; // of the request, ended by a zero
};

static void say(int fd, const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    sys_write(fd, text, length);
}

static void say_number(int fd, uint32_t number) {
    char digits[11];
    size_t used = sizeof digits;
    digits[--used] = 0;
    do digits[--used] = (char)('0' + number % 10);
    while (number /= 10);
    say(fd, digits + used);
}

static void complain(const char *why, int error) {
    say(2, "orchestra agent: ");
    say(2, why);
    if (error) {
        say(2, ", error ");
        say_number(2, (uint32_t)error);
    }
    say(2, "\n");
}

static void __attribute__((noreturn)) give_up(const char *why, int error) {
    complain(why, error);
    sys_exit(127);
}

// fromhost holds what is written to it; tried in a child, which dies where there is nothing at all.
static int has_host(void) {
    int status = 0, pid = sys_fork();
    if (pid == 0) {
        ORCHESTRA_HTIF[ORCHESTRA_FROMHOST] = 0x6f726368;
        int kept = ORCHESTRA_HTIF[ORCHESTRA_FROMHOST] == 0x6f726368;
        ORCHESTRA_HTIF[ORCHESTRA_FROMHOST] = 0;
        sys_exit(!kept);
    }
    while (sys_wait(pid, &status, 0) == -EINTR) {
    }
    return pid > 0 && status == 0;
}

// Without a host a shell on the console is more useful than the kernel's panic over a dead process 1.
static void __attribute__((noreturn)) serve_console(const char *why, int error, char *const *environment) {
    static const char *const arguments[] = {"sh", NULL};
    complain(why, error);
    give_up("cannot run /bin/sh", -sys_execute("/bin/sh", arguments, environment));
}

// ---- the child

static void __attribute__((noreturn)) become_shell(const struct agent *agent, size_t length, int output) {
    const char *by_argument[] = {"sh", "-c", agent->command, NULL};
    const char *by_file[] = {"sh", "/proc/self/fd/9", NULL};
    int nothing = sys_open("/dev/null", O_READ | O_CLOSE_ON_EXEC);
    sys_new_session();
    if (nothing >= 0) sys_duplicate(nothing, 0);
    sys_duplicate(output, 1);
    sys_duplicate(output, 2);
    if (length > LONGEST_ARGUMENT) {
        int file = sys_memory_file("command");
        for (size_t done = 0; done < length;) {
            long wrote = sys_write(file, agent->command + done, length - done);
            if (wrote <= 0) give_up("cannot keep a long command", (int)-wrote);
            done += (size_t)wrote;
        }
        sys_duplicate(file, 9);
    }
    const char *const *arguments = length > LONGEST_ARGUMENT ? by_file : by_argument;
    give_up("cannot run /bin/sh", -sys_execute("/bin/sh", arguments, agent->environment));
}

// ---- the parent

static void emit(uint32_t kind, size_t length) {
    if (kind == ORCHESTRA_ADVANCE)
        orchestra_output(ORCHESTRA_TX, length);
    else
        orchestra_report(ORCHESTRA_TX, length);
}

// Passes on what the pipe holds; 0 when nobody can write to it any more.
static int drain(int input, uint32_t kind) {
    for (;;) {
        long length = sys_read(input, ORCHESTRA_TX, CHUNK_BYTES);
        if (length > 0)
            emit(kind, (size_t)length);
        else if (length != -EINTR)
            return length == -EAGAIN;
    }
}

// As process 1 the agent inherits every orphan.
static void reap_orphans(void) {
    while (sys_wait(-1, NULL, WAIT_NO_HANG) > 0) {
    }
}

// Passes on the child's output until both are at their end; returns the child's wait status.
static int follow(int child, int input, uint32_t kind) {
    int status = 0, open = 1;
    struct pollfd waiting[2] = {{input, POLL_IN, 0}, {sys_pidfd(child), POLL_IN, 0}};
    while (waiting[1].fd >= 0 ? !waiting[1].revents : open) {
        waiting[0].fd = open ? input : -1;
        sys_poll(waiting, 2, -1);
        open = open && drain(input, kind);
    }
    while (sys_wait(child, &status, 0) == -EINTR) {
    }
    waiting[0].fd = input;
    while (open && sys_poll(waiting, 1, QUIET_MILLISECONDS) != 0) open = drain(input, kind);
    if (waiting[1].fd >= 0) sys_close(waiting[1].fd);
    return status;
}

static int refuse(const char *why) {
    size_t length = 0;
    while (why[length]) length++;
    orchestra_report(why, length);
    return ORCHESTRA_REJECT;
}

static int serve(struct agent *agent, const struct orchestra_request *request) {
    int ends[2];
    if (request->length > ORCHESTRA_BUFFER_BYTES) return refuse("the request is longer than its buffer");
    for (uint32_t i = 0; i < request->length; i++) {
        if (!request->data[i]) return refuse("a shell command cannot hold a NUL byte");
        agent->command[i] = (char)request->data[i];
    }
    agent->command[request->length] = 0;
    if (sys_pipe(ends, O_CLOSE_ON_EXEC) < 0) return refuse("the agent cannot make a pipe");
    int child = sys_fork();
    if (child == 0) become_shell(agent, request->length, ends[1]);
    sys_close(ends[1]);
    int status = -1;
    if (child > 0) {
        sys_set_nonblocking(ends[0]);
        status = follow(child, ends[0], request->kind);
    }
    sys_close(ends[0]);
    reap_orphans();
    if (child < 0) return refuse("the agent cannot fork");
    return status ? ORCHESTRA_REJECT : ORCHESTRA_ACCEPT;
}

void __attribute__((noreturn)) agent(long argc, char *const *argv, char *const *envp) {
    static struct agent self;
    struct orchestra_request request;
    (void)argc, (void)argv;
    self.environment = envp;
    int error = orchestra_open();
    if (error) serve_console("cannot map the host's registers from /dev/mem", -error, envp);
    if (!has_host()) serve_console("no host answers at 0x40008000, this is not orchestra", 0, envp);
    sys_keep_from_children(ORCHESTRA_RX, ORCHESTRA_BUFFER_BYTES); // a fork would copy their page tables
    sys_keep_from_children(ORCHESTRA_TX, ORCHESTRA_BUFFER_BYTES);
    say(1, "orchestra agent: ready\n");
    for (int verdict = ORCHESTRA_ACCEPT;;) {
        orchestra_finish((uint32_t)verdict, &request);
        verdict = serve(&self, &request);
    }
}
