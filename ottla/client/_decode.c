/* Records of a plain payload as objects, in C: what BatchReader._each does of ottla/client/decode.py, for payloads as
 * encoders write them - fields once, with tags of one byte, none unknown. Of any other payload it says None, and Python's
 * protobuf decides what it holds. So nothing is accepted here that would not be there, with the same values.
 *
 * The bytes are hostile. Every read is checked against the end of what it lies in, nothing recurses, and a length is
 * compared with what is left before it is added. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define VERSION 1
#define FIELDS 8

typedef struct {
    const uint8_t *at, *end;
} Span;

typedef struct {
    Span key, value;
    Span headers; /* from the first one's tag to the end of the record */
    int64_t time_delta, offset_delta;
    int has_key, has_value, has_headers;
} Rec;

static int read_varint(Span *s, uint64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (s->at >= s->end) return 0;
        uint8_t byte = *s->at++;
        if (shift == 63 && byte > 1) return 0;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) { *out = value; return 1; }
    }
    return 0;
}

/* What a field with a length holds. */
static int read_field(Span *s, Span *field) {
    uint64_t length;
    if (!read_varint(s, &length) || length > (uint64_t)(s->end - s->at)) return 0;
    field->at = s->at;
    s->at = field->end = s->at + length;
    return 1;
}

static int read_header(Span *s, Span *name, Span *value, int *has_value) {
    int has_name = 0;
    name->at = name->end = s->at;
    *has_value = 0;
    while (s->at < s->end) {
        uint8_t tag = *s->at++;
        if (tag == 0x0a && !has_name) {
            has_name = 1;
            if (!read_field(s, name)) return 0;
        } else if (tag == 0x12 && !*has_value) {
            *has_value = 1;
            if (!read_field(s, value)) return 0;
        } else {
            return 0;
        }
    }
    return 1;
}

/* A record whose headers, if any, are together, and are checked where they are made. */
static int read_record(Span *s, int64_t place, Rec *r) {
    int has_time = 0, has_offset = 0, headers_over = 0;
    uint64_t number;
    r->has_key = r->has_value = r->has_headers = 0;
    r->time_delta = 0;
    r->offset_delta = place;
    while (s->at < s->end) {
        const uint8_t *begin = s->at;
        Span field;
        uint8_t tag = *s->at++;
        if (r->has_headers && tag != 0x1a && !headers_over) {
            headers_over = 1;
            r->headers.end = begin;
        }
        switch (tag) {
        case 0x0a:
            if (r->has_key++ || !read_field(s, &r->key)) return 0;
            break;
        case 0x12:
            if (r->has_value++ || !read_field(s, &r->value)) return 0;
            break;
        case 0x1a:
            if (headers_over || !read_field(s, &field)) return 0;
            if (!r->has_headers++) r->headers.at = begin;
            r->headers.end = s->at;
            break;
        case 0x20:
            if (has_time++ || !read_varint(s, &number)) return 0;
            r->time_delta = (int64_t)(number >> 1) ^ -(int64_t)(number & 1);
            break;
        case 0x28:
            if (has_offset++ || !read_varint(s, &number) || number > INT32_MAX) return 0;
            r->offset_delta = (int64_t)number;
            break;
        default:
            return 0;
        }
    }
    return 1;
}

static int next_record(Span *s, int64_t place, Rec *r) {
    Span record;
    return *s->at++ == 0x0a && read_field(s, &record) && read_record(&record, place, r);
}

static int next_header(Span *s, Span *name, Span *value, int *has_value) {
    Span header;
    return s->at < s->end && *s->at++ == 0x1a && read_field(s, &header) && read_header(&header, name, value, has_value);
}

static PyObject *bytes_or_none(int has, Span s) {
    return has ? PyBytes_FromStringAndSize((const char *)s.at, s.end - s.at) : Py_NewRef(Py_None);
}

/* A tuple of (name, value), of headers that were looked at. */
static PyObject *headers_of(Span all) {
    Py_ssize_t count = 0, index = 0;
    Span each = all, name, value;
    int has_value;
    while (next_header(&each, &name, &value, &has_value)) count++;
    PyObject *headers = PyTuple_New(count);
    while (headers != NULL && index < count && next_header(&all, &name, &value, &has_value)) {
        PyObject *text = PyUnicode_DecodeUTF8((const char *)name.at, name.end - name.at, NULL);
        PyObject *data = bytes_or_none(has_value, value);
        PyObject *pair = text != NULL && data != NULL ? PyTuple_Pack(2, text, data) : NULL;
        Py_XDECREF(text);
        Py_XDECREF(data);
        if (pair == NULL) {
            Py_CLEAR(headers);
        } else {
            PyTuple_SET_ITEM(headers, index++, pair);
        }
    }
    return headers;
}

typedef struct {
    PyTypeObject *type;
    PyObject *topic, *partition, *epoch, *no_headers;
} Shared;

static PyObject *make(const Shared *shared, const Rec *r, int64_t offset, int64_t time) {
    PyObject *made = shared->type->tp_alloc(shared->type, FIELDS);
    if (made == NULL) return NULL;
    PyTuple_SET_ITEM(made, 0, Py_NewRef(shared->topic));
    PyTuple_SET_ITEM(made, 1, Py_NewRef(shared->partition));
    PyTuple_SET_ITEM(made, 2, PyLong_FromLongLong(offset));
    PyTuple_SET_ITEM(made, 3, PyLong_FromLongLong(time));
    PyTuple_SET_ITEM(made, 4, bytes_or_none(r->has_key, r->key));
    PyTuple_SET_ITEM(made, 5, bytes_or_none(r->has_value, r->value));
    PyTuple_SET_ITEM(made, 6, r->has_headers ? headers_of(r->headers) : Py_NewRef(shared->no_headers));
    PyTuple_SET_ITEM(made, 7, Py_NewRef(shared->epoch));
    for (int i = 2; i < FIELDS; i++) {
        if (PyTuple_GET_ITEM(made, i) == NULL) {
            Py_DECREF(made);
            return NULL;
        }
    }
    return made;
}

static int is_text(Span s) {
    const uint8_t *at = s.at;
    while (at < s.end && *at < 0x80) at++;
    if (at == s.end) return 1;
    PyObject *text = PyUnicode_DecodeUTF8((const char *)s.at, s.end - s.at, NULL);
    if (text == NULL) PyErr_Clear();
    Py_XDECREF(text);
    return text != NULL;
}

/* Whether all of it is as encoders write it, with so many records, whose offsets and times fit. */
static int is_plain(Span s, int64_t count, int64_t offset, int64_t time) {
    int64_t sum;
    Rec r;
    for (int64_t place = 0; s.at < s.end; place++) {
        if (place >= count || !next_record(&s, place, &r)) return 0;
        if (__builtin_add_overflow(offset, r.offset_delta, &sum)) return 0;
        if (__builtin_add_overflow(time, r.time_delta, &sum)) return 0;
        while (r.has_headers && r.headers.at < r.headers.end) {
            Span name, value;
            int has_value;
            if (!next_header(&r.headers, &name, &value, &has_value) || !is_text(name)) return 0;
        }
        if (s.at == s.end) return place + 1 == count;
    }
    return 0;
}

PyDoc_STRVAR(decode_doc,
"decode(type, plain, at, place, at_most, count, topic, partition, base_offset, base_timestamp, append_time, epoch, from_offset)\n"
"-> (records, at, place) or None\n\n"
"The records from byte `at` on, whose number there is `place`, but for those before from_offset; with where to go on. With\n"
"`at` 0 the whole is looked at first. None: Python must.");

static PyObject *decode(PyObject *module, PyObject *arguments) {
    Shared shared;
    Py_buffer plain;
    Py_ssize_t at;
    long long place, at_most, count, offset, time, from_offset;
    int append_time;
    PyObject *type;
    if (!PyArg_ParseTuple(arguments, "O!y*nLLLUOLLpOL", &PyType_Type, &type, &plain, &at, &place, &at_most, &count,
                          &shared.topic, &shared.partition, &offset, &time, &append_time, &shared.epoch, &from_offset))
        return NULL;
    shared.type = (PyTypeObject *)type;
    if (!PyType_IsSubtype(shared.type, &PyTuple_Type) || shared.type->tp_basicsize != PyTuple_Type.tp_basicsize ||
        at < 0 || at > plain.len || place < 0) {
        PyBuffer_Release(&plain);
        PyErr_SetString(PyExc_ValueError, "decode: no such type or place");
        return NULL;
    }
    const uint8_t *begin = plain.buf;
    Span s = {begin + at, begin + plain.len};
    PyObject *records = NULL;
    shared.no_headers = PyTuple_New(0);
    if (shared.no_headers != NULL && (at != 0 || is_plain(s, count, offset, time))) records = PyList_New(0);
    Rec r;
    while (records != NULL && s.at < s.end && at_most-- > 0) {
        int64_t of, when;
        if (!next_record(&s, place++, &r) || __builtin_add_overflow(offset, r.offset_delta, &of) ||
            __builtin_add_overflow(time, r.time_delta, &when)) {
            Py_CLEAR(records);
        } else if (of >= from_offset) {
            PyObject *record = make(&shared, &r, of, append_time ? time : when);
            if (record == NULL || PyList_Append(records, record) < 0) Py_CLEAR(records);
            Py_XDECREF(record);
        }
    }
    Py_XDECREF(shared.no_headers);
    at = s.at - begin;
    PyBuffer_Release(&plain);
    if (records != NULL) return Py_BuildValue("NnL", records, at, place);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"decode", decode, METH_VARARGS, decode_doc}, {NULL, NULL, 0, NULL}};

static int add_version(PyObject *module) { return PyModule_AddIntConstant(module, "VERSION", VERSION); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_version}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_decode", "Records of a plain payload as objects.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__decode(void) { return PyModuleDef_Init(&module); }
