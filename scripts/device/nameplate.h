/* Exit codes of nameplate, for programs that run it: a contract, see docs/device-contract.md.
 * C99 and C++11; needs nothing but this file. */
#ifndef NAMEPLATE_H
#define NAMEPLATE_H

enum nameplate_exit {
    NAMEPLATE_YES = 0,     /* done; the answer is yes: preflight is READY, connect was accepted */
    NAMEPLATE_NO = 1,      /* done; the answer is no: something must be mended, retrying alone does not help */
    NAMEPLATE_USAGE = 2,   /* the command line is wrong */
    NAMEPLATE_INPUT = 3,   /* a file or a value is wrong or missing */
    NAMEPLATE_NOT_NOW = 4, /* clock, network, token or service is not ready: try again later */
    NAMEPLATE_REFUSED = 5, /* it would overwrite, weaken or destroy something, and no flag allowed it */
    NAMEPLATE_BUG = 70     /* nameplate's own fault: please report it */
};

/* Whether trying the same command again later can help. */
static inline int nameplate_retry(int code) { return code == NAMEPLATE_NOT_NOW; }

/* What a code means, for a log line; never NULL. */
static inline const char *nameplate_meaning(int code)
{
    switch (code) {
    case NAMEPLATE_YES: return "yes";
    case NAMEPLATE_NO: return "no: read the report";
    case NAMEPLATE_USAGE: return "usage: the command line is wrong";
    case NAMEPLATE_INPUT: return "input: a file or a value is wrong";
    case NAMEPLATE_NOT_NOW: return "not now: try again later";
    case NAMEPLATE_REFUSED: return "refused: a flag must allow it";
    case NAMEPLATE_BUG: return "a bug in nameplate";
    default: return "not an exit code of nameplate: killed, or not started";
    }
}

#endif
