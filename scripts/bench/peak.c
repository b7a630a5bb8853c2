/* Runs a command and prints, as the last line on stderr: wall milliseconds, the largest resident set of any of its
 * processes in KiB, and its exit code. Small on purpose: a child counts the memory of whoever forked it until it
 * execs, so that a large runner (Python: 10 MiB) would measure itself. */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
    struct rusage used;
    int status = 0;
    double start = now();
    pid_t child;
    if (argc < 2)
        return 2;
    child = fork();
    if (child == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) != child)
        return 71;
    fprintf(stderr, "\n%.3f %ld %d\n", now() - start, used.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : 128);
    return 0;
}
