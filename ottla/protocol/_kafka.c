/* Kafka's records in C: what ottla/protocol/kafka_records.py does, with the same verdicts and values.
 *
 * The bytes are hostile. Every read is checked against the end of what it lies in, nothing recurses, and a length is
 * compared with what is left before it is added. What is written of a record is measured first; all that grows is one
 * buffer. Nobody may change the bytes meanwhile: the lock is given away over large ones. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 2
#define NAMED_MAX 100
#define UNLOCKED_BYTES (64 * 1024)
#define DELTA_MAX 0x7fffffff

enum { NO_KEY = 1, WRONG_OFFSET = 2, WRONG_TIME = 3 };

typedef struct {
    const uint8_t *at, *end;
    const char *fault;
} In;

typedef struct {
    const uint8_t *at;
    size_t size;
    int there;
} Part;

typedef struct {
    uint64_t time;  /* zigzag, as both formats have it */
    uint64_t offset; /* zigzag */
    Part key, value;
    In headers; /* where they are */
    uint64_t header_count;
} Rec;

typedef struct {
    uint8_t *data;
    size_t size, room;
} Out;

static const char ENDS[] = "it ends after what it lies in";
static const char VARINT[] = "a number has more than 64 bits";
static const char NEGATIVE[] = "a length is negative";
static const char COUNT[] = "it has a number of headers that it cannot hold";
static const char LONGER[] = "it is not as long as it says";
static const char DELTA[] = "its offset delta is out of range";
static const char WIRE[] = "a field has a wire type that is not its own";
static const char MEMORY[] = "there is no memory";

/* ---- reading */

static int read_varint(In *in, uint64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        if (in->at >= in->end) { in->fault = ENDS; return 0; }
        uint8_t byte = *in->at++;
        if (shift == 63 && byte > 1) break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) { *out = value; return 1; }
    }
    in->fault = VARINT;
    return 0;
}

static int take(In *in, uint64_t size, Part *part) {
    if (size > (uint64_t)(in->end - in->at)) { in->fault = ENDS; return 0; }
    part->at = in->at;
    part->size = (size_t)size;
    part->there = 1;
    in->at += size;
    return 1;
}

/* Bytes with Kafka's length before them; -1 is null. */
static int read_part(In *in, int may_be_null, Part *part) {
    uint64_t n;
    if (!read_varint(in, &n)) return 0;
    if (n & 1) {
        if (n != 1 || !may_be_null) { in->fault = NEGATIVE; return 0; }
        part->there = 0;
        part->size = 0;
        part->at = in->at;
        return 1;
    }
    return take(in, n >> 1, part);
}

static int read_header(In *in, Part *name, Part *value) { return read_part(in, 0, name) && read_part(in, 1, value); }

/* One of Kafka's records, its headers checked and left where they are. */
static int read_record(In *data, Rec *r) {
    uint64_t n;
    Part whole, name, value;
    if (!read_varint(data, &n)) return 0;
    if (n & 1) { data->fault = NEGATIVE; return 0; }
    if (!take(data, n >> 1, &whole)) return 0;
    In in = {whole.at, whole.at + whole.size, NULL};
    if (whole.size == 0) { data->fault = LONGER; return 0; }
    in.at++; /* attributes, which have no meaning yet */
    if (!read_varint(&in, &r->time) || !read_varint(&in, &r->offset) || !read_part(&in, 1, &r->key) ||
        !read_part(&in, 1, &r->value) || !read_varint(&in, &n)) {
        data->fault = in.fault;
        return 0;
    }
    if (n & 1 || n >> 1 > (uint64_t)(in.end - in.at) / 2) { data->fault = COUNT; return 0; }
    r->header_count = n >> 1;
    r->headers = in;
    for (uint64_t i = 0; i < r->header_count; i++)
        if (!read_header(&in, &name, &value)) { data->fault = in.fault; return 0; }
    if (in.at != in.end) { data->fault = LONGER; return 0; }
    return 1;
}

static int64_t unzigzag(uint64_t n) {
    uint64_t plain = (n >> 1) ^ (0 - (n & 1));
    return plain <= INT64_MAX ? (int64_t)plain : -(int64_t)(UINT64_MAX - plain) - 1;
}

/* ---- writing */

static size_t varint_size(uint64_t n) {
    size_t size = 1;
    for (; n > 0x7f; n >>= 7) size++;
    return size;
}

static uint8_t *put_varint(uint8_t *at, uint64_t n) {
    for (; n > 0x7f; n >>= 7) *at++ = (uint8_t)(n & 0x7f) | 0x80;
    *at++ = (uint8_t)n;
    return at;
}

static uint8_t *put_bytes(uint8_t *at, const Part *part) {
    if (part->size) memcpy(at, part->at, part->size);
    return at + part->size;
}

static int make_room(Out *out, size_t size) {
    if (size <= out->room - out->size) return 1;
    size_t room = out->room + out->room / 2 + size;
    uint8_t *data = realloc(out->data, room);
    if (data == NULL) return 0;
    out->data = data;
    out->room = room;
    return 1;
}

/* A protobuf field of bytes, with a tag of one byte. */
static size_t field_size(size_t size) { return 1 + varint_size(size) + size; }

static uint8_t *put_field(uint8_t *at, uint8_t tag, const Part *part) {
    *at++ = tag;
    return put_bytes(put_varint(at, part->size), part);
}

static size_t header_size(const Part *name, const Part *value) {
    return (name->size ? field_size(name->size) : 0) + (value->there ? field_size(value->size) : 0);
}

/* Whether a character in UTF-8 begins here, and how many bytes are it, or are what Python's "replace" takes for one that
 * is not: the longest beginning of a character, or one byte. */
static int next_character(const uint8_t *p, const uint8_t *end, size_t *size) {
    uint8_t lead = *p;
    *size = 1;
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4) return 0;
    size_t wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (; *size < wanted && p + *size < end && p[*size] >= low && p[*size] <= high; ++*size) low = 0x80, high = 0xbf;
    return *size == wanted;
}

/* How long a name is when what is not UTF-8 in it has become U+FFFD; `at` is where to write it, or NULL. */
static size_t readable_name(const Part *name, uint8_t *at) {
    const uint8_t *p = name->at, *end = p + name->size;
    size_t size, made = 0;
    for (; p < end; p += size) {
        int good = next_character(p, end, &size);
        if (at != NULL) memcpy(at + made, good ? (const char *)p : "\xef\xbf\xbd", good ? size : 3);
        made += good ? size : 3;
    }
    return made;
}

/* A record as a field of ottla.v1.Records. */
static const char *write_ottla(Out *out, const Rec *r, uint64_t index) {
    Part name, value;
    size_t size = (r->key.there ? field_size(r->key.size) : 0) + (r->value.there ? field_size(r->value.size) : 0);
    In headers = r->headers;
    for (uint64_t i = 0; i < r->header_count; i++) {
        if (!read_header(&headers, &name, &value)) return headers.fault;
        name.size = readable_name(&name, NULL);
        size += field_size(header_size(&name, &value));
    }
    uint64_t delta = r->offset >> 1;
    int own = r->offset != index << 1;
    if (own && (r->offset & 1 || delta > DELTA_MAX)) return DELTA;
    if (r->time) size += 1 + varint_size(r->time);
    if (own) size += 1 + varint_size(delta);
    if (!make_room(out, 1 + 10 + size)) return MEMORY;
    uint8_t *at = out->data + out->size;
    *at++ = 0x0a;
    at = put_varint(at, size);
    if (r->key.there) at = put_field(at, 0x0a, &r->key);
    if (r->value.there) at = put_field(at, 0x12, &r->value);
    headers = r->headers;
    for (uint64_t i = 0; i < r->header_count; i++) {
        if (!read_header(&headers, &name, &value)) return headers.fault;
        Part readable = {name.at, readable_name(&name, NULL), 1};
        *at++ = 0x1a;
        at = put_varint(at, header_size(&readable, &value));
        if (name.size) {
            *at++ = 0x0a;
            at = put_varint(at, readable.size);
            at += readable_name(&name, at);
        }
        if (value.there) at = put_field(at, 0x12, &value);
    }
    if (r->time) { *at++ = 0x20; at = put_varint(at, r->time); }
    if (own) { *at++ = 0x28; at = put_varint(at, delta); }
    out->size = (size_t)(at - out->data);
    return NULL;
}

/* ---- ottla.v1.Records, which was walked over when it came in: what is wrong here is damage */

static int read_tag(In *in, uint32_t *field, uint32_t *wire) {
    uint64_t tag;
    if (!read_varint(in, &tag)) return 0;
    *field = (uint32_t)(tag >> 3);
    *wire = (uint32_t)(tag & 7);
    return 1;
}

static int skip(In *in, uint32_t wire) {
    uint64_t n;
    Part part;
    switch (wire) {
    case 0: return read_varint(in, &n);
    case 1: return take(in, 8, &part);
    case 2: return read_varint(in, &n) && take(in, n, &part);
    case 5: return take(in, 4, &part);
    default: in->fault = WIRE; return 0;
    }
}

/* The fields 1 and 2 of a message: of a header, and of a record, whose others go to `other`. */
typedef struct {
    Part key, value;
    uint64_t time, delta;
    int own;
    uint64_t header_count;
} Ottlas;

static int read_message(In in, int is_record, Ottlas *m, const char **fault) {
    uint32_t field, wire;
    uint64_t n;
    Part part;
    memset(m, 0, sizeof *m);
    while (in.at < in.end) {
        if (!read_tag(&in, &field, &wire)) goto wrong;
        if (field == 1 || field == 2 || (is_record && field == 3)) {
            if (wire != 2) { in.fault = WIRE; goto wrong; }
            if (!read_varint(&in, &n) || !take(&in, n, &part)) goto wrong;
            if (field == 1) m->key = part;
            else if (field == 2) m->value = part;
            else m->header_count++;
        } else if (is_record && (field == 4 || field == 5)) {
            if (wire != 0) { in.fault = WIRE; goto wrong; }
            if (!read_varint(&in, &n)) goto wrong;
            if (field == 4) {
                m->time = n;
            } else {
                if (n > DELTA_MAX) { in.fault = DELTA; goto wrong; }
                m->delta = n;
                m->own = 1;
            }
        } else if (!skip(&in, wire)) {
            goto wrong;
        }
    }
    return 1;
wrong:
    *fault = in.fault;
    return 0;
}

static size_t kafka_part_size(const Part *part, int never_null) {
    return part->there || never_null ? varint_size((uint64_t)part->size << 1) + part->size : 1;
}

static uint8_t *put_kafka_part(uint8_t *at, const Part *part, int never_null) {
    if (!part->there && !never_null) { *at++ = 1; return at; }
    return put_bytes(put_varint(at, (uint64_t)part->size << 1), part);
}

/* The next header among a record's fields. */
static int next_header(In *in, Ottlas *header, const char **fault) {
    uint32_t field, wire;
    uint64_t n;
    Part part;
    while (in->at < in->end) {
        if (!read_tag(in, &field, &wire)) break;
        if (field != 3) {
            if (!skip(in, wire)) break;
            continue;
        }
        if (!read_varint(in, &n) || !take(in, n, &part)) break;
        In inner = {part.at, part.at + part.size, NULL};
        return read_message(inner, 0, header, fault);
    }
    *fault = in->fault ? in->fault : ENDS;
    return 0;
}

static const char *write_kafka(Out *out, In record, uint64_t index) {
    Ottlas m, header;
    const char *fault = NULL;
    if (!read_message(record, 1, &m, &fault)) return fault;
    uint64_t offset = (m.own ? m.delta : index) << 1;
    size_t size = 1 + varint_size(m.time) + varint_size(offset) + kafka_part_size(&m.key, 0) +
                  kafka_part_size(&m.value, 0) + varint_size(m.header_count << 1);
    In in = record;
    for (uint64_t i = 0; i < m.header_count; i++) {
        if (!next_header(&in, &header, &fault)) return fault;
        size += kafka_part_size(&header.key, 1) + kafka_part_size(&header.value, 0);
    }
    if (!make_room(out, 10 + size)) return MEMORY;
    uint8_t *at = put_varint(out->data + out->size, (uint64_t)size << 1);
    *at++ = 0;
    at = put_varint(put_varint(at, m.time), offset);
    at = put_kafka_part(put_kafka_part(at, &m.key, 0), &m.value, 0);
    at = put_varint(at, m.header_count << 1);
    in = record;
    for (uint64_t i = 0; i < m.header_count; i++) {
        if (!next_header(&in, &header, &fault)) return fault;
        at = put_kafka_part(put_kafka_part(at, &header.key, 1), &header.value, 0);
    }
    out->size = (size_t)(at - out->data);
    return NULL;
}

/* ---- what Python sees */

static PyObject *InvalidRecords;

static PyObject *refuse(int64_t index, const char *fault) {
    if (fault == MEMORY) return PyErr_NoMemory();
    return PyErr_Format(InvalidRecords, "record %lld: %s", (long long)index, fault);
}

static PyObject *walk(PyObject *self, PyObject *args) {
    Py_buffer data;
    long long count_max, earliest, latest;
    int keys_required;
    if (!PyArg_ParseTuple(args, "y*LLLp", &data, &count_max, &earliest, &latest, &keys_required)) return NULL;
    const uint8_t *begin = data.buf;
    In in = {begin, begin + data.len, NULL};
    Rec r;
    int64_t count = 0, lowest = INT64_MAX, highest = INT64_MIN, faulty = 0;
    struct { int64_t index; int kind; } named[NAMED_MAX];
    PyThreadState *unlocked = data.len >= UNLOCKED_BYTES ? PyEval_SaveThread() : NULL;
    while (in.at < in.end && count <= count_max && read_record(&in, &r)) {
        int64_t time = unzigzag(r.time);
        if (time < lowest) lowest = time;
        if (time > highest) highest = time;
        int kind = keys_required && !r.key.there             ? NO_KEY
                   : r.offset != (uint64_t)count << 1        ? WRONG_OFFSET
                   : time < earliest || time > latest        ? WRONG_TIME
                                                             : 0;
        if (kind) {
            if (faulty < NAMED_MAX) { named[faulty].index = count; named[faulty].kind = kind; }
            faulty++;
        }
        count++;
    }
    if (unlocked) PyEval_RestoreThread(unlocked);
    PyObject *result = NULL, *faults;
    if (in.fault) {
        refuse(count, in.fault);
    } else if ((faults = PyList_New(0)) != NULL) {
        int failed = 0;
        for (int64_t i = 0; i < faulty && i < NAMED_MAX && !failed; i++) {
            PyObject *pair = Py_BuildValue("(Li)", (long long)named[i].index, named[i].kind);
            failed = pair == NULL || PyList_Append(faults, pair) < 0;
            Py_XDECREF(pair);
        }
        if (count == 0) lowest = highest = 0;
        if (failed)
            Py_DECREF(faults);
        else
            result = Py_BuildValue("(LLLLN)", (long long)count, (long long)lowest, (long long)highest,
                                   (long long)faulty, faults);
    }
    PyBuffer_Release(&data);
    return result;
}

static PyObject *to_ottla(PyObject *self, PyObject *args) {
    Py_buffer data;
    long long wanted;
    if (!PyArg_ParseTuple(args, "y*L", &data, &wanted)) return NULL;
    const uint8_t *begin = data.buf;
    In in = {begin, begin + data.len, NULL};
    Rec r;
    Out out = {NULL, 0, 0};
    int64_t count = 0;
    const char *fault = NULL;
    PyThreadState *unlocked = data.len >= UNLOCKED_BYTES ? PyEval_SaveThread() : NULL;
    if (!make_room(&out, (size_t)data.len + (size_t)data.len / 4 + 64)) fault = MEMORY;
    while (fault == NULL && count < wanted) {
        fault = read_record(&in, &r) ? write_ottla(&out, &r, (uint64_t)count) : in.fault;
        if (fault == NULL) count++;
    }
    if (unlocked) PyEval_RestoreThread(unlocked);
    if (fault == NULL && in.at != in.end) fault = "bytes follow the records that the batch says it has";
    PyObject *result = NULL;
    if (fault != NULL)
        refuse(count, fault);
    else
        result = PyBytes_FromStringAndSize((const char *)out.data, (Py_ssize_t)out.size);
    free(out.data);
    PyBuffer_Release(&data);
    return result;
}

static PyObject *to_kafka(PyObject *self, PyObject *args) {
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "y*", &data)) return NULL;
    const uint8_t *begin = data.buf;
    In in = {begin, begin + data.len, NULL};
    Out out = {NULL, 0, 0};
    int64_t count = 0;
    uint32_t field, wire;
    uint64_t n;
    Part part;
    const char *fault = NULL;
    PyThreadState *unlocked = data.len >= UNLOCKED_BYTES ? PyEval_SaveThread() : NULL;
    if (!make_room(&out, (size_t)data.len + (size_t)data.len / 4 + 64)) fault = MEMORY;
    while (fault == NULL && in.at < in.end) {
        if (!read_tag(&in, &field, &wire)) { fault = in.fault; break; }
        if (field != 1) {
            if (!skip(&in, wire)) fault = in.fault;
            continue;
        }
        if (wire != 2) { fault = WIRE; break; }
        if (!read_varint(&in, &n) || !take(&in, n, &part)) { fault = in.fault; break; }
        In record = {part.at, part.at + part.size, NULL};
        fault = write_kafka(&out, record, (uint64_t)count);
        if (fault == NULL) count++;
    }
    if (unlocked) PyEval_RestoreThread(unlocked);
    PyObject *result = NULL;
    if (fault != NULL)
        refuse(count, fault);
    else
        result = Py_BuildValue("(y#L)", (const char *)out.data, (Py_ssize_t)out.size, (long long)count);
    free(out.data);
    PyBuffer_Release(&data);
    return result;
}

static PyMethodDef methods[] = {
    {"walk", walk, METH_VARARGS, "See ottla.protocol.kafka_records."},
    {"to_ottla", to_ottla, METH_VARARGS, "See ottla.protocol.kafka_records."},
    {"to_kafka", to_kafka, METH_VARARGS, "See ottla.protocol.kafka_records."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module) {
    PyObject *home = PyImport_ImportModule("ottla.protocol.kafka_records");
    if (home == NULL) return -1;
    Py_XSETREF(InvalidRecords, PyObject_GetAttrString(home, "InvalidRecords"));
    Py_DECREF(home);
    if (InvalidRecords == NULL) return -1;
    return PyModule_AddIntConstant(module, "VERSION", VERSION);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kafka", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kafka(void) { return PyModuleDef_Init(&module); }
