/* The front end of a stream, compiled: it gives the same bits as edge_tse/front.py with NumPy. The arithmetic is the firmware's,
 * firmware_bridge/c/library/front_math.h; this file holds the samples of a stream, and the interface to Python.
 *
 * Nothing is allocated after a stream has begun. A hop takes microseconds, so the interpreter's lock is kept: giving it up and taking
 * it again would cost more than others could do meanwhile. A stream belongs to one thread at a time.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000 /* the limited API of Python 3.11: one binary for that and all later ones */
#include <Python.h>
#include <string.h>

#include "front_math.h"

enum { EARS = 2, TABLES = 7, MOST_MOVES = 3 };
/* of bins: four of the beam, and two covariances; energies of a hop come after them */
enum { BEAM_ROWS = 12 };

typedef struct {
    PyObject_HEAD
    etse_front_t front;
    uint32_t ears, hop;
    /* the tables that front refers to, and of this stream: all in one block */
    float *memory;
    const float *window_even, *window_odd, *synthesis;
    float *history[EARS], *re[EARS], *im[EARS], *carry[EARS];
    float running_level;
    /* with a beam and two ears: the beam as each hears it and then what is heard, the past of talker and noise, energies of the last hop */
    float *beam_re[EARS], *beam_im[EARS], *mixture;
    etse_covariance_t talker, noise;
    /* two complex buffers of half a window */
    float *scratch;
} Stream;

/* A buffer of exactly this size, or an error that names it; 0 if it is there. */
static int take(PyObject *object, Py_buffer *view, Py_ssize_t bytes, int flags, const char *name) {
    if (PyObject_GetBuffer(object, view, flags | PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    if (view->len == bytes)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: %zd bytes, not %zd", name, view->len, bytes);
    PyBuffer_Release(view);
    return -1;
}

static float *carve(float **free, size_t count) {
    float *const taken = *free;
    *free += count;
    return taken;
}

static int beams(const Stream *self) { return self->front.beam && self->ears == EARS; }

static void forget(Stream *self) {
    const size_t half = self->front.half;
    for (uint32_t e = 0; e < self->ears; e++) {
        memset(self->history[e], 0, 2 * half * sizeof(float));
        memset(self->carry[e], 0, self->hop * sizeof(float));
        memset(self->re[e], 0, (half + 1) * sizeof(float));
        memset(self->im[e], 0, (half + 1) * sizeof(float));
    }
    self->running_level = 0.0f;
    if (beams(self)) /* one after the other in memory */
        memset(self->beam_re[0], 0, (BEAM_ROWS * (half + 1) + self->front.bands) * sizeof(float));
}

/* Every band is at least one bin, in order, and all of them are the bins. */
static int whole(const uint16_t *edges, uint32_t bands, uint32_t bins) {
    for (uint32_t b = 0; b < bands; b++)
        if (edges[b] >= edges[b + 1])
            return 0;
    return edges[0] == 0 && edges[bands] == bins;
}

PyDoc_STRVAR(stream_doc, "Stream(ears, hop, window, bands, spatial_bands, beam, level_invariant, lifted_window, lowering_window, twiddles, split, "
                         "edges, reals, zero_points)\n\nMade by edge_tse.front.CompiledFront, which says what each of them is.");

static PyObject *stream_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    (void)keywords;
    unsigned int ears, hop, window, bands, spatial;
    int beam, level_invariant;
    PyObject *given[TABLES];
    if (!PyArg_ParseTuple(arguments, "IIIIIppOOOOOOO", &ears, &hop, &window, &bands, &spatial, &beam, &level_invariant, &given[0],
                          &given[1], &given[2], &given[3], &given[4], &given[5], &given[6]))
        return NULL;
    /* 2^15: edges are 16 bits wide */
    if (ears < 1 || ears > EARS || window < 8 || window > 1u << 15 || (window & (window - 1)) || hop < 2 || hop % 2 || 2 * hop > window ||
        spatial < 1 || bands < 1 || bands > window / 2 + 1 || bands % spatial)
        return PyErr_Format(PyExc_ValueError, "no stream of %u ears, hop %u, window %u, %u bands, %u of them spatial", ears, hop, window,
                            bands, spatial);
    const size_t half = window / 2, bins = half + 1, synthesis = 2 * hop;
    size_t twiddles = 0;
    for (size_t n = half; n > 4; n /= 4)
        twiddles += 6 * (n / 4);
    const size_t split = 2 * (half / 2 + 1), moves = beam ? 3 : 2;
    const struct {
        const char *name;
        size_t bytes;
    } expected[TABLES] = {
        {"lifted_window", window * sizeof(float)},   {"lowering_window", synthesis * sizeof(float)},
        {"twiddles", twiddles * sizeof(float)},      {"split", split * sizeof(float)},
        {"edges", (bands + 1) * sizeof(uint16_t)},   {"reals", (6 + moves) * sizeof(float)},
        {"zero_points", (1 + moves) * sizeof(int32_t)},
    };
    Py_buffer views[TABLES];
    for (int i = 0; i < TABLES; i++)
        if (take(given[i], &views[i], (Py_ssize_t)expected[i].bytes, PyBUF_SIMPLE, expected[i].name) < 0) {
            while (i--)
                PyBuffer_Release(&views[i]);
            return NULL;
        }
    Stream *self = NULL;
    if (!whole(views[4].buf, bands, (uint32_t)bins)) {
        PyErr_SetString(PyExc_ValueError, "edges: the bands are not all the bins, in order");
        goto done;
    }
    const allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    self = (Stream *)allocate(type, 0);
    if (self == NULL)
        goto done;
    const size_t stored = window + synthesis + twiddles + split + (bands + 1 + 1) / 2;
    const size_t per_ear = window + 2 * bins + hop;
    const size_t beamed = beam && ears == EARS ? BEAM_ROWS * bins + bands : 0;
    self->memory = PyMem_Calloc(stored + ears * per_ear + beamed + 2 * window + 3 * bands, sizeof(float));
    if (self->memory == NULL) {
        Py_CLEAR(self);
        PyErr_NoMemory();
        goto done;
    }
    float *rest = self->memory, *even = carve(&rest, half), *odd = carve(&rest, half);
    for (size_t i = 0; i < half; i++) {
        even[i] = ((const float *)views[0].buf)[2 * i];
        odd[i] = ((const float *)views[0].buf)[2 * i + 1];
    }
    float *const tables[3] = {carve(&rest, synthesis), carve(&rest, twiddles), carve(&rest, split)};
    for (int i = 0; i < 3; i++)
        memcpy(tables[i], views[i + 1].buf, expected[i + 1].bytes);
    uint16_t *const edges = (uint16_t *)carve(&rest, (bands + 1 + 1) / 2);
    memcpy(edges, views[4].buf, expected[4].bytes);
    float reals[6 + MOST_MOVES] = {0};
    int32_t zero_points[1 + MOST_MOVES] = {0};
    memcpy(reals, views[5].buf, expected[5].bytes);
    memcpy(zero_points, views[6].buf, expected[6].bytes);
    self->ears = ears;
    self->hop = hop;
    self->window_even = even;
    self->window_odd = odd;
    self->synthesis = tables[0];
    for (uint32_t e = 0; e < ears; e++) {
        self->history[e] = carve(&rest, window);
        self->re[e] = carve(&rest, bins);
        self->im[e] = carve(&rest, bins);
        self->carry[e] = carve(&rest, hop);
    }
    if (beamed) {
        for (uint32_t e = 0; e < EARS; e++) {
            self->beam_re[e] = carve(&rest, bins);
            self->beam_im[e] = carve(&rest, bins);
        }
        etse_covariance_t *const both[] = {&self->talker, &self->noise};
        for (int i = 0; i < 2; i++)
            *both[i] = (etse_covariance_t){carve(&rest, bins), carve(&rest, bins), carve(&rest, bins), carve(&rest, bins)};
        self->mixture = carve(&rest, bands);
    }
    self->scratch = rest;
    self->front = (etse_front_t){
        .half = (uint32_t)half,
        .bands = bands,
        .spatial_bands = spatial,
        .twiddles = tables[1],
        .split = tables[2],
        .edges = edges,
        .silence = reals[0],
        .power_unit = reals[1],
        .power_floor = reals[2],
        .level_slope = reals[3],
        .level_offset = reals[4],
        .feature_steps = reals[5],
        .mask_scale = reals[6],
        .velocity_scale = reals[7],
        .feature_zero_point = zero_points[0],
        .mask_zero_point = zero_points[1],
        .velocity_zero_point = zero_points[2],
        .share_scale = reals[8],
        .share_zero_point = zero_points[3],
        .beam = (uint32_t)beam,
        .level_invariant = (uint32_t)level_invariant,
    };
    forget(self);
done:
    for (int i = 0; i < TABLES; i++)
        PyBuffer_Release(&views[i]);
    return (PyObject *)self;
}

static void stream_free(PyObject *object) {
    PyTypeObject *const type = Py_TYPE(object);
    PyMem_Free(((Stream *)object)->memory);
    const freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static void analyze(Stream *self, const float *samples, int8_t *features) {
    const etse_front_t *const f = &self->front;
    const uint32_t half = f->half, hop = self->hop, kept = 2 * half - hop;
    float *const re = self->scratch, *const im = re + half, *const re2 = im + half, *const im2 = re2 + half;
    for (uint32_t e = 0; e < self->ears; e++) {
        float *const restrict history = self->history[e];
        memmove(history, history + hop, kept * sizeof(float));
        memcpy(history + kept, samples + e * hop, hop * sizeof(float));
        for (uint32_t i = 0; i < half; i++) {
            re[i] = history[2 * i] * self->window_even[i];
            im[i] = history[2 * i + 1] * self->window_odd[i];
        }
        const int second = etse_fft_stages(half, f->twiddles, re, im, re2, im2);
        etse_split(f, second ? re2 : re, second ? im2 : im, self->re[e], self->im[e]);
    }
    const uint32_t right = self->ears - 1;
    float *const energies = self->scratch + 4 * half, *const mean = beams(self) ? self->mixture : energies + 2 * f->bands;
    etse_front_features(f, self->ears, self->re[0], self->im[0], self->re[right], self->im[right], energies, energies + f->bands, mean,
                        &self->running_level, features);
    int8_t *const of_beam = features + f->bands + 3 * f->spatial_bands;
    if (beams(self)) {
        etse_beam_filter(f, &self->talker, &self->noise, self->re[0], self->im[0], self->re[1], self->im[1], self->beam_re[0],
                         self->beam_im[0], self->beam_re[1], self->beam_im[1], self->scratch);
        etse_beam_hold(f, mean, self->beam_re[0], self->beam_im[0], self->beam_re[1], self->beam_im[1], energies, of_beam);
    } else if (f->beam) {
        memset(of_beam, etse_feature(f, 0.0f), f->bands);
    }
}

static void apply_gains(Stream *self, const int8_t *mask, const int8_t *velocity) {
    const etse_front_t *const f = &self->front;
    for (uint32_t b = 0; b < f->bands; b++) {
        const float gain = etse_gain(f, mask, velocity, b);
        for (uint32_t e = 0; e < self->ears; e++)
            for (uint32_t k = f->edges[b]; k < f->edges[b + 1]; k++) {
                self->re[e][k] *= gain;
                self->im[e][k] *= gain;
            }
    }
}

static void mix(Stream *self, const int8_t *mask, const int8_t *velocity, const int8_t *share) {
    const etse_front_t *const f = &self->front;
    float *const part = self->scratch, *const free = part + f->bands;
    etse_beam_moves(f, mask, velocity, share, self->scratch);
    for (uint32_t e = 0; e < EARS; e++) {
        etse_beam_mix(f, self->scratch, self->re[e], self->beam_re[e]);
        etse_beam_mix(f, self->scratch, self->im[e], self->beam_im[e]);
    }
    etse_beam_talker(f, mask, self->mixture, self->beam_re[0], self->beam_im[0], self->beam_re[1], self->beam_im[1], part);
    etse_beam_learn(f, part, &self->talker, &self->noise, self->re[0], self->im[0], self->re[1], self->im[1], free);
}

/* share: NULL without a beam */
static void synthesize(Stream *self, const int8_t *mask, const int8_t *velocity, const int8_t *share, float *out) {
    const etse_front_t *const f = &self->front;
    const uint32_t half = f->half, hop = self->hop, first = half - hop;
    float *const re = self->scratch, *const im = re + half, *const re2 = im + half, *const im2 = re2 + half;
    float *const *heard_re = self->re, *const *heard_im = self->im;
    if (beams(self)) {
        mix(self, mask, velocity, share);
        heard_re = self->beam_re;
        heard_im = self->beam_im;
    } else {
        apply_gains(self, mask, velocity);
    }
    for (uint32_t e = 0; e < self->ears; e++, out += hop) {
        etse_merge(f, heard_re[e], heard_im[e], re, im);
        const int second = etse_fft_stages(half, f->twiddles, re, im, re2, im2);
        const float *const odd = (second ? re2 : re) + first, *const even = (second ? im2 : im) + first;
        const float *const rise = self->synthesis, *const fall = rise + hop;
        float *const carry = self->carry[e];
        for (uint32_t i = 0; i < hop / 2; i++) {
            out[2 * i] = even[i] * rise[2 * i] + carry[2 * i];
            out[2 * i + 1] = odd[i] * rise[2 * i + 1] + carry[2 * i + 1];
            carry[2 * i] = even[i + hop / 2] * fall[2 * i];
            carry[2 * i + 1] = odd[i + hop / 2] * fall[2 * i + 1];
        }
    }
}

PyDoc_STRVAR(analyze_doc, "analyze(hop, features): float32 [ears, hop] to int8 [features], in place.");

static PyObject *stream_analyze(PyObject *object, PyObject *const *given, Py_ssize_t count) {
    Stream *const self = (Stream *)object;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "analyze takes a hop and features, not %zd arguments", count);
    Py_buffer hop, features;
    if (take(given[0], &hop, (Py_ssize_t)(self->ears * self->hop * sizeof(float)), PyBUF_SIMPLE, "hop") < 0)
        return NULL;
    if (take(given[1], &features, (Py_ssize_t)(self->front.bands * (1 + self->front.beam) + 3 * self->front.spatial_bands), PyBUF_WRITABLE, "features") < 0) {
        PyBuffer_Release(&hop);
        return NULL;
    }
    analyze(self, hop.buf, features.buf);
    PyBuffer_Release(&features);
    PyBuffer_Release(&hop);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(synthesize_doc, "synthesize(mask, velocity, [share,] out): int8 [bands] each, share with a beam, to float32 [ears, hop], in place. "
                             "Once per hop, after analyze.");

static PyObject *stream_synthesize(PyObject *object, PyObject *const *given, Py_ssize_t count) {
    static const char *const names[MOST_MOVES] = {"mask", "velocity", "share"};
    Stream *const self = (Stream *)object;
    const int moves = self->front.beam ? 3 : 2;
    if (count != moves + 1)
        return PyErr_Format(PyExc_TypeError, "synthesize takes mask, velocity%s and out, not %zd arguments",
                            self->front.beam ? ", share" : "", count);
    Py_buffer views[MOST_MOVES + 1];
    int taken = 0;
    for (; taken < moves; taken++)
        if (take(given[taken], &views[taken], (Py_ssize_t)self->front.bands, PyBUF_SIMPLE, names[taken]) < 0)
            break;
    const Py_ssize_t bytes = (Py_ssize_t)(self->ears * self->hop * sizeof(float));
    if (taken == moves && take(given[moves], &views[moves], bytes, PyBUF_WRITABLE, "out") == 0)
        taken++;
    if (taken == moves + 1)
        synthesize(self, views[0].buf, views[1].buf, self->front.beam ? views[2].buf : NULL, views[moves].buf);
    for (int i = 0; i < taken; i++)
        PyBuffer_Release(&views[i]);
    if (taken < moves + 1)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(reset_doc, "reset(): forget the past, the next hop is the first.");

static PyObject *stream_reset(PyObject *object, PyObject *unused) {
    (void)unused;
    forget((Stream *)object);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"analyze", (PyCFunction)(void (*)(void))stream_analyze, METH_FASTCALL, analyze_doc},
    {"synthesize", (PyCFunction)(void (*)(void))stream_synthesize, METH_FASTCALL, synthesize_doc},
    {"reset", stream_reset, METH_NOARGS, reset_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)stream_doc},
    {Py_tp_new, stream_new},
    {Py_tp_dealloc, stream_free},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "edge_tse._front.Stream",
    .basicsize = sizeof(Stream),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static int fill(PyObject *module) {
    PyObject *const type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type == NULL)
        return -1;
    const int failed = PyModule_AddObjectRef(module, "Stream", type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "edge_tse._front",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__front(void) { return PyModuleDef_Init(&module); }
