/* Names for containers that were given none: a quality and somebody who had it. */
#include <stdio.h>

#include "base/cleanup.h"
#include "container/recpriv.h"

static const char *const quality[] = {
    "able",   "agile",  "amber",   "bold",   "brave",  "brisk",   "calm",   "candid",  "clever",
    "cosy",   "crisp",  "daring",  "deft",   "dusty",  "eager",   "early",  "earnest", "fair",
    "famous", "fiery",  "fond",    "frank",  "gentle", "glad",    "golden", "grand",   "happy",
    "hardy",  "honest", "humble",  "jolly",  "keen",   "kind",    "lively", "loyal",   "lucid",
    "mellow", "merry",  "mild",    "modest", "neat",   "nimble",  "noble",  "patient", "plain",
    "polite", "proud",  "quick",   "quiet",  "rapid",  "ready",   "robust", "serene",  "sharp",
    "shy",    "silent", "sincere", "sober",  "solid",  "spry",    "steady", "stoic",   "sunny",
    "sure",   "swift",  "tidy",    "trusty", "upbeat", "valiant", "vivid",  "warm",    "wise",
    "witty",  "zesty",
};

static const char *const person[] = {
    "abel",      "ampere",    "archimedes", "babbage",  "banach",     "bohr",    "boole",
    "brahe",     "cantor",    "carnot",     "cauchy",   "celsius",    "curie",   "darwin",
    "descartes", "dirac",     "einstein",   "erdos",    "euclid",     "euler",   "faraday",
    "fermat",    "fermi",     "feynman",    "fourier",  "franklin",   "galileo", "galois",
    "gauss",     "germain",   "goedel",     "hamilton", "herschel",   "hertz",   "hilbert",
    "hooke",     "hopper",    "hypatia",    "joule",    "kepler",     "knuth",   "lagrange",
    "laplace",   "leibniz",   "linnaeus",   "lovelace", "maxwell",    "meitner", "mendel",
    "newton",    "noether",   "ohm",        "pascal",   "pasteur",    "planck",  "poincare",
    "ptolemy",   "ramanujan", "riemann",    "ritchie",  "rutherford", "shannon", "tesla",
    "thales",    "turing",    "volta",      "watt",     "wegener",    "wiles",   "wright",
    "wu",
};

void recname_make(uint64_t n, char out[RECORD_NAME_MAX + 1])
{
    const char *q = quality[n % ARRAY_LEN(quality)],
               *p = person[n / ARRAY_LEN(quality) % ARRAY_LEN(person)];
    uint64_t rest = n / ARRAY_LEN(quality) / ARRAY_LEN(person);

    if (rest == 0)
        snprintf(out, RECORD_NAME_MAX + 1, "%s_%s", q, p);
    else
        snprintf(out, RECORD_NAME_MAX + 1, "%s_%s%u", q, p, (unsigned)(rest % 100000));
}
