/* The beam of edge_tse/nn/beam.py on whole signals and its gradient, compiled: what torch makes of a few dozen operations over long
 * arrays is made here in one pass through them. beam.py defines it; a test holds the two equal, gradients too.
 *
 * Arrays are float32: ears [ear][frame][bin][2] (real and imaginary), part [frame][bin], past [frame][row][bin]. No device computes
 * with what is here.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000 /* the limited API of Python 3.11: one binary for that and all later ones */
#include <Python.h>
#include <stddef.h>

#if defined(__clang__)
#define BINS_ARE_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define BINS_ARE_INDEPENDENT _Pragma("GCC ivdep")
#else
#define BINS_ARE_INDEPENDENT
#endif

/* Of the past: the covariance of the talker, then that of noise, four values each. */
enum { COVARIANCE = 4, ROWS = 2 * COVARIANCE };

typedef struct {
    float unit, target_keeps, noise_keeps, loading, loading_floor, trace_floor;
} constants_t;

/* A Hermitian 2 x 2 matrix; re and im are those of left times the conjugate of right. */
typedef struct {
    float left, right, re, im;
} matrix_t;

/* Spectra of both ears in one bin. */
typedef struct {
    float left_re, left_im, right_re, right_im;
} ears_t;

/* The filters of two covariances, adj(N) S / (tr(adj(N) S) + floor det(N)), before that share is multiplied in. */
typedef struct {
    matrix_t s, n;           /* with a trace of 1, n with its load */
    float s_unit, n_unit;    /* what made it 1 */
    float b11, b22, across;  /* adj(N) S: the diagonal is real but for across, which its trace has not */
    float b12, b12i, b21, b21i;
    float share;
} filters_t;

static inline matrix_t row(const float *past, size_t bins, size_t k) {
    return (matrix_t){past[k], past[bins + k], past[2 * bins + k], past[3 * bins + k]};
}

static inline void put(float *past, size_t bins, size_t k, matrix_t m) {
    past[k] = m.left;
    past[bins + k] = m.right;
    past[2 * bins + k] = m.re;
    past[3 * bins + k] = m.im;
}

static inline ears_t heard(const float *left, const float *right, size_t k) {
    return (ears_t){left[2 * k], left[2 * k + 1], right[2 * k], right[2 * k + 1]};
}

static inline matrix_t products(ears_t x) {
    return (matrix_t){x.left_re * x.left_re + x.left_im * x.left_im, x.right_re * x.right_re + x.right_im * x.right_im,
                      x.left_re * x.right_re + x.left_im * x.right_im, x.left_im * x.right_re - x.left_re * x.right_im};
}

static inline float dot(matrix_t a, matrix_t b) { return a.left * b.left + a.right * b.right + a.re * b.re + a.im * b.im; }

static inline matrix_t scaled(float a, matrix_t A) { return (matrix_t){a * A.left, a * A.right, a * A.re, a * A.im}; }

/* a A + b B */
static inline matrix_t blend(float a, matrix_t A, float b, matrix_t B) {
    return (matrix_t){a * A.left + b * B.left, a * A.right + b * B.right, a * A.re + b * B.re, a * A.im + b * B.im};
}

static inline filters_t filters_of(matrix_t s, matrix_t n, const constants_t *c) {
    filters_t f;
    f.s_unit = 1.0f / (s.left + s.right + c->loading_floor);
    f.n_unit = 1.0f / (n.left + n.right + c->loading_floor);
    f.s = s = scaled(f.s_unit, s);
    n = scaled(f.n_unit, n);
    const float load = c->loading * (n.left + n.right) + c->loading_floor * f.n_unit;
    n.left += load;
    n.right += load;
    f.n = n;
    const float along = n.re * s.re + n.im * s.im;
    f.across = n.im * s.re - n.re * s.im;
    f.b11 = n.right * s.left - along;
    f.b22 = n.left * s.right - along;
    f.b12 = n.right * s.re - s.right * n.re;
    f.b12i = n.right * s.im - s.right * n.im;
    f.b21 = n.left * s.re - s.left * n.re;
    f.b21i = s.left * n.im - n.left * s.im;
    f.share = 1.0f / (f.b11 + f.b22 + c->trace_floor * (n.left * n.right - n.re * n.re - n.im * n.im));
    return f;
}

/* Both ears through the filters, but for their share. */
static inline ears_t through(const filters_t *f, ears_t x) {
    const float a = x.left_re, b = x.left_im, c = x.right_re, d = x.right_im;
    return (ears_t){f->b11 * a - f->across * b + f->b21 * c + f->b21i * d, f->b11 * b + f->across * a + f->b21 * d - f->b21i * c,
                    f->b12 * a + f->b12i * b + f->b22 * c + f->across * d, f->b12 * b - f->b12i * a + f->b22 * d - f->across * c};
}

/* Slopes of a loss by the two covariances, from its slope g by what the filters make of x. The units that make the traces 1 are held:
 * a filter does not depend on them. */
static inline void slopes_of(const filters_t *f, ears_t x, ears_t g, const constants_t *constants, matrix_t *by_s, matrix_t *by_n) {
    const matrix_t s = f->s, n = f->n;
    const float a = x.left_re, b = x.left_im, c = x.right_re, d = x.right_im;
    const ears_t unshared = through(f, x);
    const float by_share = g.left_re * unshared.left_re + g.left_im * unshared.left_im + g.right_re * unshared.right_re +
                           g.right_im * unshared.right_im;
    const float by_trace = -f->share * f->share * by_share, by_determinant = constants->trace_floor * by_trace;
    g = (ears_t){f->share * g.left_re, f->share * g.left_im, f->share * g.right_re, f->share * g.right_im};
    const float by_b11 = g.left_re * a + g.left_im * b + by_trace, by_b22 = g.right_re * c + g.right_im * d + by_trace;
    const float by_b21 = g.left_re * c + g.left_im * d, by_b21i = g.left_re * d - g.left_im * c;
    const float by_b12 = g.right_re * a + g.right_im * b, by_b12i = g.right_re * b - g.right_im * a;
    const float by_across = g.left_im * a - g.left_re * b + g.right_re * d - g.right_im * c, by_along = -(by_b11 + by_b22);
    const matrix_t slope_s = {
        n.right * by_b11 - n.re * by_b21 + n.im * by_b21i,
        n.left * by_b22 - n.re * by_b12 - n.im * by_b12i,
        n.right * by_b12 + n.left * by_b21 + n.re * by_along + n.im * by_across,
        n.right * by_b12i - n.left * by_b21i + n.im * by_along - n.re * by_across,
    };
    const float by_left = s.right * by_b22 + s.re * by_b21 - s.im * by_b21i + n.right * by_determinant;
    const float by_right = s.left * by_b11 + s.re * by_b12 + s.im * by_b12i + n.left * by_determinant;
    const float by_load = constants->loading * (by_left + by_right);
    const matrix_t slope_n = {
        by_left + by_load,
        by_right + by_load,
        s.re * by_along - s.im * by_across - s.right * by_b12 - s.left * by_b21 - 2.0f * n.re * by_determinant,
        s.im * by_along + s.re * by_across - s.right * by_b12i + s.left * by_b21i - 2.0f * n.im * by_determinant,
    };
    *by_s = scaled(f->s_unit, slope_s);
    *by_n = scaled(f->n_unit, slope_n);
}

/* A frame through the filters of the past, and then into it: now -> next, which may be the same. */
static void beam_frame(const constants_t *restrict constants, size_t bins, const float *left, const float *right, const float *part,
                       const float *now, float *next, float *out_left, float *out_right) {
    const constants_t c = *constants;
    BINS_ARE_INDEPENDENT
    for (size_t k = 0; k < bins; k++) {
        const ears_t x = heard(left, right, k);
        const matrix_t s = row(now, bins, k), n = row(now + COVARIANCE * bins, bins, k);
        const filters_t f = filters_of(s, n, &c);
        const ears_t y = through(&f, x);
        out_left[2 * k] = f.share * y.left_re;
        out_left[2 * k + 1] = f.share * y.left_im;
        out_right[2 * k] = f.share * y.right_re;
        out_right[2 * k + 1] = f.share * y.right_im;
        const matrix_t xx = products(x);
        const float rest = 1.0f - part[k];
        put(next, bins, k, blend(c.target_keeps, s, (1.0f - c.target_keeps) * c.unit * part[k] * part[k], xx));
        put(next + COVARIANCE * bins, bins, k, blend(c.noise_keeps, n, (1.0f - c.noise_keeps) * c.unit * rest * rest, xx));
    }
}

/* The same backwards: slopes by the past after the frame become those by the past before it; by_part is the slope by its part. */
static void slope_frame(const constants_t *restrict constants, size_t bins, const float *left, const float *right, const float *part,
                        const float *past, const float *by_left, const float *by_right, float *by_past, float *by_part) {
    const constants_t c = *constants;
    float *const by_noise = by_past + COVARIANCE * bins;
    BINS_ARE_INDEPENDENT
    for (size_t k = 0; k < bins; k++) {
        const ears_t x = heard(left, right, k);
        const matrix_t xx = products(x), after_s = row(by_past, bins, k), after_n = row(by_noise, bins, k);
        by_part[k] = 2.0f * c.unit * ((1.0f - c.target_keeps) * part[k] * dot(after_s, xx) -
                                      (1.0f - c.noise_keeps) * (1.0f - part[k]) * dot(after_n, xx));
        const filters_t f = filters_of(row(past, bins, k), row(past + COVARIANCE * bins, bins, k), &c);
        matrix_t by_s, by_n;
        slopes_of(&f, x, heard(by_left, by_right, k), &c, &by_s, &by_n);
        put(by_past, bins, k, blend(c.target_keeps, after_s, 1.0f, by_s));
        put(by_noise, bins, k, blend(c.noise_keeps, after_n, 1.0f, by_n));
    }
}

/* No more of either than a buffer's size can be reckoned with. Returns 0, or -1 and an error. */
static int countable(Py_ssize_t frames, Py_ssize_t bins) {
    if (frames >= 0 && bins >= 0 && frames < 1 << 24 && bins < 1 << 24)
        return 0;
    PyErr_Format(PyExc_ValueError, "no sound has %zd frames of %zd bins", frames, bins);
    return -1;
}

/* Of a buffer so many floats. Returns 0, or -1 and an error. */
static int sized(const Py_buffer *view, size_t floats, const char *name) {
    if (view->len == (Py_ssize_t)(floats * sizeof(float)))
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: %zd bytes, not %zu", name, view->len, floats * sizeof(float));
    return -1;
}

/* Ends a call: None, or an error that is set already. */
static PyObject *finished(Py_buffer *const *views, size_t count, int wrong) {
    for (size_t i = 0; i < count; i++)
        PyBuffer_Release(views[i]);
    if (wrong)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(beam_doc, "beam(frames, bins, constants, ears, part, past, out): one item; past has a frame more where each is kept, else one.");

static PyObject *beam(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_ssize_t frames, bins;
    constants_t c;
    Py_buffer ears, part, past, out;
    if (!PyArg_ParseTuple(arguments, "nn(ffffff)y*y*w*w*", &frames, &bins, &c.unit, &c.target_keeps, &c.noise_keeps, &c.loading,
                          &c.loading_floor, &c.trace_floor, &ears, &part, &past, &out))
        return NULL;
    const size_t cells = (size_t)frames * (size_t)bins, state = ROWS * (size_t)bins;
    const int kept = past.len != (Py_ssize_t)(state * sizeof(float));
    const int wrong = countable(frames, bins) || sized(&ears, 4 * cells, "ears") || sized(&part, cells, "part") ||
                      sized(&out, 4 * cells, "out") || (kept && sized(&past, state * ((size_t)frames + 1), "past"));
    if (!wrong) {
        const float *const left = ears.buf, *const right = left + 2 * cells, *const talker = part.buf;
        float *const made = out.buf, *now = past.buf;
        Py_BEGIN_ALLOW_THREADS
        for (size_t t = 0; t < (size_t)frames; t++) {
            const size_t at = t * (size_t)bins;
            float *const next = kept ? now + state : now;
            beam_frame(&c, (size_t)bins, left + 2 * at, right + 2 * at, talker + at, now, next, made + 2 * at, made + 2 * (cells + at));
            now = next;
        }
        Py_END_ALLOW_THREADS
    }
    Py_buffer *const all[] = {&ears, &part, &past, &out};
    return finished(all, sizeof(all) / sizeof(*all), wrong);
}

PyDoc_STRVAR(slope_doc, "slope(frames, bins, constants, ears, part, past, by_out, by_past, by_part): by_past is room for one frame, of zeros.");

static PyObject *slope(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_ssize_t frames, bins;
    constants_t c;
    Py_buffer ears, part, past, by_out, by_past, by_part;
    if (!PyArg_ParseTuple(arguments, "nn(ffffff)y*y*y*y*w*w*", &frames, &bins, &c.unit, &c.target_keeps, &c.noise_keeps, &c.loading,
                          &c.loading_floor, &c.trace_floor, &ears, &part, &past, &by_out, &by_past, &by_part))
        return NULL;
    const size_t cells = (size_t)frames * (size_t)bins, state = ROWS * (size_t)bins;
    const int wrong = countable(frames, bins) || sized(&ears, 4 * cells, "ears") || sized(&part, cells, "part") ||
                      sized(&past, state * ((size_t)frames + 1), "past") || sized(&by_out, 4 * cells, "by_out") ||
                      sized(&by_past, state, "by_past") || sized(&by_part, cells, "by_part");
    if (!wrong) {
        const float *const left = ears.buf, *const right = left + 2 * cells, *const talker = part.buf, *const before = past.buf;
        const float *const by_left = by_out.buf, *const by_right = by_left + 2 * cells;
        float *const by_talker = by_part.buf;
        Py_BEGIN_ALLOW_THREADS
        for (size_t t = (size_t)frames; t--;) {
            const size_t at = t * (size_t)bins;
            slope_frame(&c, (size_t)bins, left + 2 * at, right + 2 * at, talker + at, before + t * state, by_left + 2 * at,
                        by_right + 2 * at, by_past.buf, by_talker + at);
        }
        Py_END_ALLOW_THREADS
    }
    Py_buffer *const all[] = {&ears, &part, &past, &by_out, &by_past, &by_part};
    return finished(all, sizeof(all) / sizeof(*all), wrong);
}

static PyMethodDef methods[] = {
    {"beam", beam, METH_VARARGS, beam_doc},
    {"slope", slope, METH_VARARGS, slope_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {{0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "edge_tse.nn._beam",
    .m_methods = methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__beam(void) { return PyModuleDef_Init(&module); }
