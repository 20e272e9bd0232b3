/* The walk over a Records message, in C: what ottla/protocol/walk.py does, with the same verdicts and values.
 *
 * The bytes are hostile. Every read is checked against the end of what it lies in, nothing recurses (groups, the one
 * thing in protobuf that nests without a length, are refused), nothing is allocated per record, and offsets never wrap:
 * a length is compared with what is left before it is added. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define VERSION 1
#define NAMED_MAX 100
#define UNLOCKED_BYTES (64 * 1024)

enum { NO_KEY = 1, WRONG_OFFSET = 2, WRONG_TIME = 3 };

typedef struct {
    const uint8_t *data, *end, *at;
    const uint8_t *record; /* where the record that was read last begins: its tag */
    int64_t place;         /* the number of the record that is read next */
    const char *fault;
} Cursor;

typedef struct {
    int64_t time_delta;
    int64_t offset_delta; /* as given, else the record's place */
    int has_key, given;
} Rec;

static const char ENDS[] = "a field is longer than what it lies in";
static const char VARINT[] = "a varint is longer than its kind may be";
static const char TAG[] = "a tag names no field";
static const char WIRE[] = "a field has a wire type that is not its own";
static const char TEXT[] = "a header's name is not UTF-8";
static const char DELTA[] = "its offset_delta is out of range";

static int read_varint(Cursor *c, const uint8_t **at, const uint8_t *end, uint64_t *out) {
    uint64_t value = 0;
    const uint8_t *p = *at;
    for (int shift = 0; shift < 70; shift += 7) {
        if (p >= end) { c->fault = ENDS; return 0; }
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1) break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) { *at = p; *out = value; return 1; }
    }
    c->fault = VARINT;
    return 0;
}

static int read_tag(Cursor *c, const uint8_t **at, const uint8_t *end, uint32_t *tag) {
    if (*at < end && **at < 0x80) {
        *tag = *(*at)++;
    } else {
        const uint8_t *begin = *at;
        uint64_t value;
        if (!read_varint(c, at, end, &value)) return 0;
        if (*at - begin > 5 || value > UINT32_MAX) { c->fault = VARINT; return 0; }
        *tag = (uint32_t)value;
    }
    if (*tag >> 3 == 0) { c->fault = TAG; return 0; }
    return 1;
}

static int read_length(Cursor *c, const uint8_t **at, const uint8_t *end, size_t *length) {
    if (*at < end && **at < 0x80) {
        *length = *(*at)++;
    } else {
        const uint8_t *begin = *at;
        uint64_t value;
        if (!read_varint(c, at, end, &value)) return 0;
        if (*at - begin > 5) { c->fault = VARINT; return 0; }
        if (value > (uint64_t)(end - *at)) { c->fault = ENDS; return 0; }
        *length = (size_t)value;
    }
    if (*length > (size_t)(end - *at)) { c->fault = ENDS; return 0; }
    return 1;
}

static int skip(Cursor *c, const uint8_t **at, const uint8_t *end, uint32_t tag) {
    uint64_t value;
    size_t length;
    switch (tag & 7) {
    case 0:
        return read_varint(c, at, end, &value);
    case 2:
        if (!read_length(c, at, end, &length)) return 0;
        *at += length;
        return 1;
    case 1:
    case 5:
        length = (tag & 7) == 1 ? 8 : 4;
        if ((size_t)(end - *at) < length) { c->fault = ENDS; return 0; }
        *at += length;
        return 1;
    default:
        c->fault = WIRE;
        return 0;
    }
}

static int is_utf8(const uint8_t *p, size_t length) {
    const uint8_t *end = p + length;
    while (p < end) {
        uint8_t lead = *p++;
        if (lead < 0x80) continue;
        int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || end - p < more) return 0;
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (*p < low || *p > high) return 0;
        for (p++; --more > 0; p++)
            if (*p < 0x80 || *p > 0xbf) return 0;
    }
    return 1;
}

static int read_header(Cursor *c, const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        uint32_t tag;
        size_t length;
        if (!read_tag(c, &at, end, &tag)) return 0;
        if (tag >> 3 > 2) {
            if (!skip(c, &at, end, tag)) return 0;
            continue;
        }
        if ((tag & 7) != 2) { c->fault = WIRE; return 0; }
        if (!read_length(c, &at, end, &length)) return 0;
        if (tag >> 3 == 1 && !is_utf8(at, length)) { c->fault = TEXT; return 0; }
        at += length;
    }
    return 1;
}

static int read_record(Cursor *c, const uint8_t *at, const uint8_t *end, Rec *r) {
    uint64_t value;
    size_t length;
    r->time_delta = 0;
    r->offset_delta = c->place;
    r->has_key = r->given = 0;
    while (at < end) {
        uint32_t tag;
        if (!read_tag(c, &at, end, &tag)) return 0;
        switch (tag >> 3) {
        case 1:
        case 2:
        case 3:
            if ((tag & 7) != 2) { c->fault = WIRE; return 0; }
            if (!read_length(c, &at, end, &length)) return 0;
            if (tag >> 3 == 1) r->has_key = 1;
            if (tag >> 3 == 3 && !read_header(c, at, at + length)) return 0;
            at += length;
            break;
        case 4:
        case 5:
            if ((tag & 7) != 0) { c->fault = WIRE; return 0; }
            if (!read_varint(c, &at, end, &value)) return 0;
            if (tag >> 3 == 4) {
                uint64_t plain = (value >> 1) ^ (0 - (value & 1));
                r->time_delta = plain <= INT64_MAX ? (int64_t)plain : -(int64_t)(UINT64_MAX - plain) - 1;
            } else {
                if (value > INT32_MAX) { c->fault = DELTA; return 0; }
                r->offset_delta = (int64_t)value;
                r->given = 1;
            }
            break;
        default:
            if (!skip(c, &at, end, tag)) return 0;
        }
    }
    return 1;
}

/* 1: a record was read, 0: there is none any more, -1: malformed. */
static int next_record(Cursor *c, Rec *r) {
    while (c->at < c->end) {
        uint32_t tag;
        size_t length;
        c->record = c->at;
        if (!read_tag(c, &c->at, c->end, &tag)) return -1;
        if (tag >> 3 != 1) {
            if (!skip(c, &c->at, c->end, tag)) return -1;
            continue;
        }
        if ((tag & 7) != 2) { c->fault = WIRE; return -1; }
        if (!read_length(c, &c->at, c->end, &length)) return -1;
        if (!read_record(c, c->at, c->at + length, r)) return -1;
        c->at += length;
        c->place++;
        return 1;
    }
    return 0;
}

static PyObject *Malformed;

static PyObject *malformed(const Cursor *c) {
    return PyErr_Format(Malformed, "record %lld, at byte %zd of the plain payload: %s", (long long)c->place,
                        (Py_ssize_t)(c->record - c->data), c->fault);
}

static Cursor cursor(const Py_buffer *data, Py_ssize_t at, long long place) {
    const uint8_t *begin = data->buf;
    if (at < 0) at = 0;
    if (at > data->len) at = data->len;
    Cursor c = {begin, begin + data->len, begin + at, begin + at, place, NULL};
    return c;
}

static PyObject *walk(PyObject *self, PyObject *args) {
    Py_buffer data;
    long long count_max, earliest, latest;
    int keys_required;
    if (!PyArg_ParseTuple(args, "y*LLLp", &data, &count_max, &earliest, &latest, &keys_required)) return NULL;
    Cursor c = cursor(&data, 0, 0);
    Rec r;
    int64_t lowest = INT64_MAX, highest = INT64_MIN, faulty = 0;
    struct { int64_t index; int kind; } named[NAMED_MAX];
    int state;
    PyThreadState *unlocked = data.len >= UNLOCKED_BYTES ? PyEval_SaveThread() : NULL;
    while (c.place <= count_max && (state = next_record(&c, &r)) > 0) {
        if (r.time_delta < lowest) lowest = r.time_delta;
        if (r.time_delta > highest) highest = r.time_delta;
        int kind = keys_required && !r.has_key                              ? NO_KEY
                   : r.given && r.offset_delta != c.place - 1               ? WRONG_OFFSET
                   : r.time_delta < earliest || r.time_delta > latest       ? WRONG_TIME
                                                                            : 0;
        if (kind) {
            if (faulty < NAMED_MAX) { named[faulty].index = c.place - 1; named[faulty].kind = kind; }
            faulty++;
        }
    }
    if (unlocked) PyEval_RestoreThread(unlocked);
    PyObject *result = NULL, *faults;
    if (c.fault) {
        malformed(&c);
    } else if ((faults = PyList_New(0)) != NULL) {
        int failed = 0;
        for (int64_t i = 0; i < faulty && i < NAMED_MAX && !failed; i++) {
            PyObject *pair = Py_BuildValue("(Li)", (long long)named[i].index, named[i].kind);
            failed = pair == NULL || PyList_Append(faults, pair) < 0;
            Py_XDECREF(pair);
        }
        if (c.place == 0) lowest = highest = 0;
        if (failed)
            Py_DECREF(faults);
        else
            result = Py_BuildValue("(LLLLN)", (long long)c.place, (long long)lowest, (long long)highest,
                                   (long long)faulty, faults);
    }
    PyBuffer_Release(&data);
    return result;
}

static PyObject *find(PyObject *self, PyObject *args) {
    Py_buffer data;
    long long offset_from, time_from;
    if (!PyArg_ParseTuple(args, "y*LL", &data, &offset_from, &time_from)) return NULL;
    Cursor c = cursor(&data, 0, 0);
    Rec r;
    int state;
    PyThreadState *unlocked = data.len >= UNLOCKED_BYTES ? PyEval_SaveThread() : NULL;
    do state = next_record(&c, &r);
    while (state > 0 && (r.offset_delta < offset_from || r.time_delta < time_from));
    if (unlocked) PyEval_RestoreThread(unlocked);
    PyObject *result = NULL;
    if (state < 0)
        malformed(&c);
    else if (state == 0)
        result = Py_NewRef(Py_None);
    else
        result = Py_BuildValue("(nLLL)", (Py_ssize_t)(c.record - c.data), (long long)(c.place - 1),
                               (long long)r.offset_delta, (long long)r.time_delta);
    PyBuffer_Release(&data);
    return result;
}

static PyObject *cut(PyObject *self, PyObject *args) {
    Py_buffer data;
    Py_ssize_t at, room;
    long long place;
    if (!PyArg_ParseTuple(args, "y*nLn", &data, &at, &place, &room)) return NULL;
    Cursor c = cursor(&data, at, place);
    const uint8_t *begin = c.at, *end = c.at;
    Rec r;
    int64_t count = 0, last = 0, highest = INT64_MIN;
    int given = 0, state;
    PyThreadState *unlocked = data.len >= UNLOCKED_BYTES ? PyEval_SaveThread() : NULL;
    while ((state = next_record(&c, &r)) > 0) {
        if (count && (c.at - begin > room || r.given != given)) break;
        given = r.given;
        if (count == 0 || r.offset_delta > last) last = r.offset_delta;
        if (r.time_delta > highest) highest = r.time_delta;
        end = c.at;
        count++;
    }
    if (unlocked) PyEval_RestoreThread(unlocked);
    PyObject *result = NULL;
    if (state < 0)
        malformed(&c);
    else
        result = Py_BuildValue("(nLLLOO)", (Py_ssize_t)(end - c.data), (long long)count, (long long)last,
                               (long long)(count ? highest : 0), given ? Py_True : Py_False,
                               state > 0 ? Py_True : Py_False);
    PyBuffer_Release(&data);
    return result;
}

static PyMethodDef methods[] = {
    {"walk", walk, METH_VARARGS, "See ottla.protocol.walk."},
    {"find", find, METH_VARARGS, "See ottla.protocol.walk."},
    {"cut", cut, METH_VARARGS, "See ottla.protocol.walk."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module) {
    PyObject *home = PyImport_ImportModule("ottla.protocol.walk");
    if (home == NULL) return -1;
    Py_XSETREF(Malformed, PyObject_GetAttrString(home, "Malformed"));
    Py_DECREF(home);
    if (Malformed == NULL) return -1;
    return PyModule_AddIntConstant(module, "VERSION", VERSION);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_walk", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__walk(void) { return PyModuleDef_Init(&module); }
