/* path-tracer: "The gleaning", an ear of gold beside a glass ball, as a picture that many machines paint.
 *
 *   path-tracer --tile X,Y --tiles 12x8 --size 1200x800 --spp 8  > tile.ppm
 *
 * One run paints one tile and writes it as a binary PPM whose comment says where it belongs:
 *
 *   P6
 *   # tile at LEFT,TOP of WIDTHxHEIGHT
 *   TILE_WIDTH TILE_HEIGHT
 *   255
 *   (red, green, blue, a byte each)
 *
 * `--tile N` counts tiles row by row; without --tile the whole picture is one tile.
 *
 * What must stay true:
 * - A pixel depends on its place and on --size and --spp, never on the tile it is painted in: any way of cutting the
 *   picture gives the same bytes. So each sample is seeded by its pixel alone, and the filter at the end looks only at
 *   pixels that every tile paints for itself (APRON).
 * - No clock, no randomness from outside, no table read from a file.
 *
 * How it works: a unidirectional path tracer in double precision. Everything but floor, lamp and sky is an ellipsoid in
 * a bounding-volume tree. Light is gathered by sampling the lamp at each diffuse hit, straight and through the glass
 * ball (which is what paints the caustic), and by following bounces into the sky. Samples are points of Roberts's R2
 * sequence, turned for each pixel. Diffuse light is smoothed by an edge-aware filter before it is multiplied by the
 * surface's colour.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846

/* ---- vectors --------------------------------------------------------------------------------------------------- */

typedef struct { double x, y, z; } vec;

static inline vec v3(double x, double y, double z) { return (vec){x, y, z}; }
static inline vec add(vec a, vec b) { return v3(a.x + b.x, a.y + b.y, a.z + b.z); }
static inline vec sub(vec a, vec b) { return v3(a.x - b.x, a.y - b.y, a.z - b.z); }
static inline vec mul(vec a, vec b) { return v3(a.x * b.x, a.y * b.y, a.z * b.z); }
static inline vec scale(vec a, double s) { return v3(a.x * s, a.y * s, a.z * s); }
static inline double dot(vec a, vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static inline vec cross(vec a, vec b) {
    return v3(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
static inline vec along(vec o, vec d, double t) { return add(o, scale(d, t)); }
static inline vec unit(vec a) { return scale(a, 1 / sqrt(dot(a, a))); }
static inline vec mix(vec a, vec b, double t) { return add(scale(a, 1 - t), scale(b, t)); }
static inline double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }
static inline double lesser(double a, double b) { return a < b ? a : b; }
static inline double greater(double a, double b) { return a > b ? a : b; }
static inline double largest(vec a) { return greater(a.x, greater(a.y, a.z)); }

static inline double smooth(double edge0, double edge1, double x) {
    double t = clamp((x - edge0) / (edge1 - edge0), 0, 1);
    return t * t * (3 - 2 * t);
}

/* Two unit vectors at right angles to n and to each other (Duff et al. 2017). */
static inline void basis(vec n, vec *a, vec *b) {
    double s = n.z < 0 ? -1 : 1, k = -1 / (s + n.z), m = n.x * n.y * k;
    *a = v3(1 + s * n.x * n.x * k, s * m, -s * n.x);
    *b = v3(m, s + n.y * n.y * k, -n.y);
}

/* ---- samples --------------------------------------------------------------------------------------------------- */

typedef struct { uint32_t index, block, seed; } sampler;
typedef struct { double u, v; } pair;

static inline uint32_t mixed(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

/* The next two numbers in [0, 1): a point of Roberts's R2 sequence, turned by the seed. Each call walks the sequence in
 * an order of its own (an affine shuffle of the block), so that two calls are not in step. */
static inline pair next(sampler *s) {
    uint32_t turn = mixed(s->seed += 0x9e3779b9u);
    uint32_t i = (s->index * (turn | 1) + (turn >> 7)) & s->block;
    return (pair){(i * 0xc13fa9a9u + turn) * 0x1p-32, (i * 0x91e10da5u + turn * 0x2c1b3c6du) * 0x1p-32};
}

/* The point of the unit circle at `turns` in [0, 1), to 1e-8: directions are drawn too often for libm's last digit. */
static inline pair on_circle(double turns) {
    int quarter = (int)(4 * turns + 0.5);
    double x = (turns - 0.25 * quarter) * (2 * PI), x2 = x * x;
    double c = 1 - x2 / 2 * (1 - x2 / 12 * (1 - x2 / 30 * (1 - x2 / 56)));
    double s = x * (1 - x2 / 6 * (1 - x2 / 20 * (1 - x2 / 42 * (1 - x2 / 72))));
    switch (quarter & 3) {
    case 0: return (pair){c, s};
    case 1: return (pair){-s, c};
    case 2: return (pair){-c, -s};
    default: return (pair){s, -c};
    }
}

/* ---- the scene ------------------------------------------------------------------------------------------------- */

typedef enum { GOLD, GLASS, CLAY, STALK } material;
enum { NOTHING = -1, FLOOR = -2, LAMP = -3 };

/* An ellipsoid: rows of `to_unit` are its axes over its radii, so that |to_unit (p - centre)| = 1 on its skin. */
typedef struct {
    vec centre, to_unit[3], reach;
    material made_of;
} shape;

#define SHAPES_MAX 320
static shape shapes[SHAPES_MAX];
static int shape_count;

static const vec BALL_CENTRE = {1.12, 0.66, 0.18};
static const double BALL_RADIUS = 0.66;

static void put(vec centre, vec u, vec v, vec w, vec radii, material made_of) {
    if (shape_count == SHAPES_MAX) abort();
    vec a = scale(u, radii.x), b = scale(v, radii.y), c = scale(w, radii.z);
    shapes[shape_count++] = (shape){
        .centre = centre,
        .to_unit = {scale(u, 1 / radii.x), scale(v, 1 / radii.y), scale(w, 1 / radii.z)},
        .reach = v3(sqrt(a.x * a.x + b.x * b.x + c.x * c.x), sqrt(a.y * a.y + b.y * b.y + c.y * c.y),
                    sqrt(a.z * a.z + b.z * b.z + c.z * c.z)),
        .made_of = made_of,
    };
}

/* A long shape from its centre along `axis`. */
static void put_along(vec centre, vec axis, vec side, double length, double width, double depth, material made_of) {
    vec u = unit(axis), w = unit(cross(u, side)), v = cross(w, u);
    put(centre, u, v, w, v3(length, width, depth), made_of);
}

/* The stalk is a quadratic Bezier curve. */
static const vec STALK_CURVE[3] = {{-1.42, -0.02, -0.25}, {-1.16, 1.28, 0.02}, {-0.20, 1.72, 0.12}};

static vec stalk_at(double t) {
    double s = 1 - t;
    return add(add(scale(STALK_CURVE[0], s * s), scale(STALK_CURVE[1], 2 * s * t)), scale(STALK_CURVE[2], t * t));
}

static vec stalk_direction(double t) {
    return unit(add(scale(sub(STALK_CURVE[1], STALK_CURVE[0]), 1 - t), scale(sub(STALK_CURVE[2], STALK_CURVE[1]), t)));
}

/* Three grains and an awn at one joint of the ear. `side` is +1 or -1. */
static void put_spikelet(double t, double side, double size) {
    vec joint = stalk_at(t), up = stalk_direction(t);
    vec out = scale(unit(cross(up, v3(0.10, 0, 1))), side), front = unit(cross(out, up));
    for (int k = -1; k <= 1; k++) {
        vec lean = unit(add(add(up, scale(out, 0.40 - 0.08 * abs(k))), scale(front, 0.42 * k)));
        vec centre = along(add(along(joint, out, 0.030 * size), scale(front, 0.050 * k * size)), lean, 0.085 * size);
        put_along(centre, lean, out, 0.118 * size, 0.052 * size, 0.056 * size, GOLD);
    }
    vec awn = unit(add(add(up, scale(out, 0.30)), scale(front, 0.10 * side)));
    double length = 0.27 * size;
    put_along(along(along(joint, out, 0.09 * size), awn, 0.12 * size + length), awn, out, length, 0.0052, 0.0052, GOLD);
}

static void put_wheat(void) {
    enum { LINKS = 16, JOINTS = 11 };
    for (int i = 0; i < LINKS; i++) {
        double t = (i + 0.5) * 0.62 / LINKS;
        put_along(stalk_at(t), stalk_direction(t), v3(0, 0, 1), 0.13, 0.020, 0.020, STALK);
    }
    for (int i = 0; i < 2 * JOINTS; i++) {
        double part = i / (2.0 * JOINTS - 1);
        put_spikelet(0.56 + 0.40 * part, i % 2 ? 1 : -1, 0.92 + 0.35 * part - 0.62 * part * part);
    }
    put_along(along(stalk_at(0.97), stalk_direction(1), 0.08), stalk_direction(1), v3(0, 0, 1), 0.11, 0.04, 0.04, GOLD);
    vec right_leaf = add(stalk_at(0.26), v3(0.30, 0.20, 0.06)), left_leaf = add(stalk_at(0.16), v3(-0.16, 0.26, 0.05));
    put_along(right_leaf, v3(0.80, 0.62, 0.14), v3(0.2, -0.6, 0.7), 0.42, 0.040, 0.006, STALK);
    put_along(left_leaf, v3(-0.46, 0.86, 0.10), v3(0.6, 0.2, 0.7), 0.36, 0.036, 0.006, STALK);
}

/* Is there something on the floor that close? */
static int crowded(vec at, double near) {
    for (const shape *s = shapes; s < shapes + shape_count; s++) {
        double dx = s->centre.x - at.x, dz = s->centre.z - at.z, radius = s->made_of == GLASS ? 0.55 * BALL_RADIUS : 0;
        if (s->centre.y < 2 * s->reach.y && dx * dx + dz * dz < (near + radius) * (near + radius)) return 1;
    }
    return 0;
}

/* Grains that fell beside the ear: what a gleaner picks up. */
static void put_fallen_grains(void) {
    uint32_t state = 2026;
    for (int placed = 0; placed < 58;) {
        double r[4];
        for (int k = 0; k < 4; k++) r[k] = (state = mixed(state + 0x9e3779b9u)) * 0x1p-32;
        vec at = v3(-2.6 + 5.2 * r[0], 0, -1.7 + 3.9 * r[1]);
        int on_letters = fabs(at.x) < 1.8 && at.z > 1.02;
        if (on_letters || crowded(at, 0.21)) continue;
        double size = 0.8 + 0.4 * r[3], turn = 2 * PI * r[2];
        at.y = 0.047 * size;
        vec axis = v3(cos(turn), 0, sin(turn)), side = v3(-sin(turn), 0, cos(turn));
        put_along(at, axis, side, 0.115 * size, 0.050 * size, 0.047 * size, GOLD);
        placed++;
    }
}

static void build_scene(void) {
    vec x = v3(1, 0, 0), y = v3(0, 1, 0), z = v3(0, 0, 1);
    put(BALL_CENTRE, x, y, z, v3(BALL_RADIUS, BALL_RADIUS, BALL_RADIUS), GLASS);
    put(v3(0.14, 0.27, -0.72), x, y, z, v3(0.27, 0.27, 0.27), CLAY);
    put_wheat();
    put_fallen_grains();
}

/* ---- the tree -------------------------------------------------------------------------------------------------- */

/* A node's children stand at `first` and `first + 1`; a leaf (count > 0) holds shapes first .. first + count. */
typedef struct {
    union {
        struct { vec low, high; };
        double side[6];
    };
    int first, count, axis;
} node;

static node nodes[2 * SHAPES_MAX];
static int node_count;

static inline double part(vec a, int axis) { return axis == 0 ? a.x : axis == 1 ? a.y : a.z; }

typedef struct { vec low, high; } box;

static const box EMPTY = {{INFINITY, INFINITY, INFINITY}, {-INFINITY, -INFINITY, -INFINITY}};

static box with(box b, const shape *s) {
    vec low = sub(s->centre, s->reach), high = add(s->centre, s->reach);
    return (box){{lesser(b.low.x, low.x), lesser(b.low.y, low.y), lesser(b.low.z, low.z)},
                 {greater(b.high.x, high.x), greater(b.high.y, high.y), greater(b.high.z, high.z)}};
}

static node leaf(int first, int count) {
    box b = EMPTY;
    for (int i = first; i < first + count; i++) b = with(b, &shapes[i]);
    return (node){.low = b.low, .high = b.high, .first = first, .count = count};
}

static double area(box b) {
    vec d = sub(b.high, b.low);
    return d.x * d.y + d.y * d.z + d.z * d.x;
}

/* Insertion sort: keeps the order of equals, so that the tree is the same everywhere. */
static void sort_shapes(int first, int count, int axis) {
    for (int i = first + 1; i < first + count; i++) {
        shape moved = shapes[i];
        int j = i;
        for (; j > first && part(shapes[j - 1].centre, axis) > part(moved.centre, axis); j--) shapes[j] = shapes[j - 1];
        shapes[j] = moved;
    }
}

/* Splits at the cheapest place by surface area over all three axes. */
static void split(int at) {
    int first = nodes[at].first, count = nodes[at].count, best_axis = -1, best_left = 0;
    double best = area((box){nodes[at].low, nodes[at].high}) * count;
    for (int axis = 0; axis < 3 && count > 2; axis++) {
        static double right[SHAPES_MAX + 1];
        box b = EMPTY;
        sort_shapes(first, count, axis);
        for (int k = count - 1; k > 0; k--) b = with(b, &shapes[first + k]), right[k] = area(b) * (count - k);
        b = EMPTY;
        for (int k = 1; k < count; k++) {
            b = with(b, &shapes[first + k - 1]);
            double cost = area(b) * k + right[k];
            if (cost < best) best = cost, best_axis = axis, best_left = k;
        }
    }
    if (best_axis < 0) return;
    sort_shapes(first, count, best_axis);
    int child = node_count;
    node_count += 2;
    nodes[child] = leaf(first, best_left);
    nodes[child + 1] = leaf(first + best_left, count - best_left);
    nodes[at].first = child, nodes[at].count = 0, nodes[at].axis = best_axis;
    split(child);
    split(child + 1);
}

static void build_tree(void) {
    nodes[0] = leaf(0, shape_count);
    node_count = 1;
    split(0);
}

/* ---- rays ------------------------------------------------------------------------------------------------------ */

typedef struct { vec from, to; } ray;
typedef struct { double t; int what; } hit;

/* The lamp: a square softbox, up and to the left, looking at the ear. */
static const vec LAMP_CENTRE = {-3.0, 4.4, 2.4};
static const vec LAMP_COLOUR = {1.0, 0.80, 0.56};
static const double LAMP_HALF = 1.45, LAMP_POWER = 10;
static vec lamp_normal, lamp_u, lamp_v;

/* What a box test needs of a ray: for each axis the side of a box that is met first (0 low, 3 high). */
typedef struct { vec from, inverse; int x, y, z; } slope;

static inline int box_hit(const node *n, const slope *r, double limit) {
    const double *side = n->side;
    double enter = (side[r->x] - r->from.x) * r->inverse.x, leave = (side[3 - r->x] - r->from.x) * r->inverse.x;
    double enter_y = (side[1 + r->y] - r->from.y) * r->inverse.y, leave_y = (side[4 - r->y] - r->from.y) * r->inverse.y;
    if (enter > leave_y || enter_y > leave) return 0;
    double enter_z = (side[2 + r->z] - r->from.z) * r->inverse.z, leave_z = (side[5 - r->z] - r->from.z) * r->inverse.z;
    enter = enter_y > enter ? enter_y : enter, leave = leave_y < leave ? leave_y : leave;
    return enter <= leave_z && enter_z <= leave && leave > 0 && leave_z > 0 && enter < limit && enter_z < limit;
}

static inline vec to_unit(const shape *s, vec a) {
    return v3(dot(s->to_unit[0], a), dot(s->to_unit[1], a), dot(s->to_unit[2], a));
}

static inline double shape_hit(const shape *s, ray r, double limit) {
    vec o = to_unit(s, sub(r.from, s->centre)), d = to_unit(s, r.to);
    double a = dot(d, d), b = dot(o, d), c = dot(o, o) - 1, under = b * b - a * c;
    if (under <= 0) return limit;
    double root = sqrt(under), near = (-b - root) / a;
    if (near > 1e-7) return near < limit ? near : limit;
    double far = (-b + root) / a;
    return far > 1e-7 && far < limit ? far : limit;
}

/* The nearest thing on the ray before `limit`; with `any`, the first shape found. Glass throws a shadow like all else:
 * what passes it is gathered by `caustic`. */
static inline hit cast(ray r, double limit, int any) {
    hit h = {limit, NOTHING};
    double floor_at = -r.from.y / r.to.y;
    if (!any && r.to.y < 0 && floor_at > 1e-7 && floor_at < h.t) h = (hit){floor_at, FLOOR};
    double facing = dot(r.to, lamp_normal);
    if (!any && facing < 0) {
        double t = dot(sub(LAMP_CENTRE, r.from), lamp_normal) / facing;
        vec p = sub(along(r.from, r.to, t), LAMP_CENTRE);
        int on_lamp = fabs(dot(p, lamp_u)) < LAMP_HALF && fabs(dot(p, lamp_v)) < LAMP_HALF;
        if (on_lamp && t > 1e-7 && t < h.t) h = (hit){t, LAMP};
    }
    vec inverse = v3(1 / r.to.x, 1 / r.to.y, 1 / r.to.z);
    slope s = {r.from, inverse, r.to.x < 0 ? 3 : 0, r.to.y < 0 ? 3 : 0, r.to.z < 0 ? 3 : 0};
    int stack[SHAPES_MAX], top = 0, at = 0;
    for (;;) {
        const node *n = &nodes[at];
        if (box_hit(n, &s, h.t)) {
            if (n->count == 0) {
                int far_first = part(r.to, n->axis) < 0;
                stack[top++] = n->first + !far_first;
                at = n->first + far_first;
                continue;
            }
            for (int i = n->first; i < n->first + n->count; i++) {
                double t = shape_hit(&shapes[i], r, h.t);
                if (t < h.t) {
                    h = (hit){t, i};
                    if (any) return h;
                }
            }
        }
        if (top == 0) return h;
        at = stack[--top];
    }
}

static hit nearest(ray r) { return cast(r, INFINITY, 0); }
static int shadowed(ray r, double distance) { return cast(r, distance - 1e-6, 1).what != NOTHING; }

/* ---- light ----------------------------------------------------------------------------------------------------- */

/* Far lights out of focus, drawn as the discs a lens would make of them. */
enum { DISCS = 46 };
static struct { vec to, colour; double cosine; } discs[DISCS];

static void build_discs(void) {
    uint32_t state = 77;
    for (int i = 0; i < DISCS; i++) {
        double r[5];
        for (int k = 0; k < 5; k++) r[k] = (state = mixed(state + 0x9e3779b9u)) * 0x1p-32;
        double turn = -0.62 + 1.24 * r[0], rise = 0.040 + 0.15 * r[1] * r[1];
        discs[i].to = unit(v3(sin(turn), rise, -cos(turn)));
        discs[i].cosine = cos(0.010 + 0.020 * r[2]);
        discs[i].colour = scale(mix(v3(1.0, 0.50, 0.16), v3(1.0, 0.80, 0.45), r[3]), 0.10 + 0.30 * r[4] * r[4]);
    }
}

static vec sky(vec to, int sharp) {
    double up = clamp(to.y, 0, 1), west = clamp(0.30 * to.x - 0.95 * to.z, 0, 1);
    vec dusk = mix(v3(0.20, 0.125, 0.115), v3(0.95, 0.40, 0.13), west * west * west);
    vec c = mix(dusk, v3(0.045, 0.085, 0.16), smooth(0, 0.42, sqrt(up) * 0.72));
    /* A wide pale glow behind the viewer: what gold needs to look like gold. */
    double pale = clamp(-0.45 * to.x + 0.45 * to.y + 0.77 * to.z, 0, 1);
    c = add(c, scale(v3(1.0, 0.86, 0.68), 0.95 * pale * pale * pale));
    if (sharp && to.z < -0.6 && to.y < 0.25)
        for (int i = 0; i < DISCS; i++) {
            double d = dot(to, discs[i].to), edge = 1 - discs[i].cosine;
            if (d > discs[i].cosine) c = add(c, scale(discs[i].colour, smooth(0, 0.12 * edge, d - discs[i].cosine)));
        }
    return c;
}

/* Light straight from the lamp onto p, over pi. */
static vec lamp_light(vec p, vec normal, pair s) {
    vec at = add(LAMP_CENTRE, add(scale(lamp_u, (2 * s.u - 1) * LAMP_HALF), scale(lamp_v, (2 * s.v - 1) * LAMP_HALF)));
    vec d = sub(at, p);
    double distance2 = dot(d, d), distance = sqrt(distance2);
    d = scale(d, 1 / distance);
    double here = dot(d, normal), there = -dot(d, lamp_normal);
    if (here <= 0 || there <= 0 || shadowed((ray){p, d}, distance)) return v3(0, 0, 0);
    double lamp_area = 4 * LAMP_HALF * LAMP_HALF;
    return scale(LAMP_COLOUR, LAMP_POWER * here * there * lamp_area / (PI * distance2));
}

static inline double fresnel(double cosine, double from, double to) {
    double sine2 = from * from / (to * to) * (1 - cosine * cosine);
    if (sine2 >= 1) return 1;
    double inner = sqrt(1 - sine2);
    double s = (from * cosine - to * inner) / (from * cosine + to * inner);
    double p = (from * inner - to * cosine) / (from * inner + to * cosine);
    return 0.5 * (s * s + p * p);
}

static inline vec mirrored(vec d, vec n) { return sub(d, scale(n, 2 * dot(d, n))); }

/* d bent at a skin with normal n (against d), ratio = index outside over index inside. */
static inline vec bent(vec d, vec n, double ratio) {
    double cosine = -dot(d, n), inner2 = 1 - ratio * ratio * (1 - cosine * cosine);
    return add(scale(d, ratio), scale(n, ratio * cosine - sqrt(greater(inner2, 0))));
}

static const double GLASS_INDEX = 1.5;

/* Lamp light that reaches p through the ball: looks at the ball, is bent twice, and asks what it sees. Without this the
 * ball would throw no light, or only fireflies. Returned over pi. */
static vec caustic(vec p, vec normal, pair s) {
    vec d = sub(BALL_CENTRE, p);
    double distance2 = dot(d, d), radius2 = BALL_RADIUS * BALL_RADIUS;
    if (distance2 > 14 * radius2 || distance2 <= radius2 * 1.0001) return v3(0, 0, 0);
    double spread = 1 - sqrt(1 - radius2 / distance2), cosine = 1 - s.u * spread;
    double sine = sqrt(greater(0, 1 - cosine * cosine));
    pair turn = on_circle(s.v);
    vec w = unit(d), a, b;
    basis(w, &a, &b);
    vec look = add(scale(w, cosine), add(scale(a, sine * turn.u), scale(b, sine * turn.v)));
    double here = dot(look, normal);
    if (here <= 0) return v3(0, 0, 0);
    /* The two bends, without the tree: a ray through a ball is plane geometry. */
    double middle = dot(look, d), half = sqrt(greater(0, radius2 - (distance2 - middle * middle)));
    vec into = along(p, look, middle - half), n = scale(sub(into, BALL_CENTRE), 1 / BALL_RADIUS);
    double pass = 1 - fresnel(-dot(look, n), 1, GLASS_INDEX);
    vec inside = bent(look, n, 1 / GLASS_INDEX);
    vec out = along(into, inside, -2 * BALL_RADIUS * dot(inside, n));
    n = scale(sub(BALL_CENTRE, out), 1 / BALL_RADIUS);
    pass *= 1 - fresnel(-dot(inside, n), GLASS_INDEX, 1);
    vec leaving = bent(inside, n, GLASS_INDEX);
    double facing = dot(leaving, lamp_normal);
    if (facing >= 0) return v3(0, 0, 0);
    double t = dot(sub(LAMP_CENTRE, out), lamp_normal) / facing;
    vec on = sub(along(out, leaving, t), LAMP_CENTRE);
    if (t < 0 || fabs(dot(on, lamp_u)) > LAMP_HALF || fabs(dot(on, lamp_v)) > LAMP_HALF) return v3(0, 0, 0);
    if (shadowed((ray){p, look}, middle - half) || shadowed((ray){out, leaving}, t)) return v3(0, 0, 0);
    return scale(LAMP_COLOUR, LAMP_POWER * pass * here * 2 * spread);
}

/* ---- surfaces -------------------------------------------------------------------------------------------------- */

/* GLEANER in strokes on a 4 x 6 grid, a letter every 6: x0 y0 x1 y1. */
static const double STROKES[][4] = {
    /* G */ {4, 5, 3, 6}, {3, 6, 1, 6}, {1, 6, 0, 5}, {0, 5, 0, 1}, {0, 1, 1, 0},
    /* G */ {1, 0, 3, 0}, {3, 0, 4, 1}, {4, 1, 4, 3}, {4, 3, 2.4, 3},
    /* L */ {6, 6, 6, 0}, {6, 0, 9.6, 0},
    /* E */ {12, 6, 12, 0}, {12, 6, 15.8, 6}, {12, 3.1, 15, 3.1}, {12, 0, 15.8, 0},
    /* A */ {17.8, 0, 20, 6}, {20, 6, 22.2, 0}, {18.6, 2.1, 21.4, 2.1},
    /* N */ {24, 0, 24, 6}, {24, 6, 28, 0}, {28, 0, 28, 6},
    /* E */ {30, 6, 30, 0}, {30, 6, 33.8, 6}, {30, 3.1, 33, 3.1}, {30, 0, 33.8, 0},
    /* R */ {36, 0, 36, 6}, {36, 6, 39, 6}, {39, 6, 40, 5.1}, {40, 5.1, 40, 3.9},
    /* R */ {40, 3.9, 39, 3}, {39, 3, 36, 3}, {38, 3, 40.2, 0},
};

static int in_letters(double x, double z) {
    const double unit_size = 0.066, left = -1.32, bottom = 1.56, stroke = 0.42;
    double px = (x - left) / unit_size, py = (bottom - z) / unit_size;
    if (px < -1 || px > 41 || py < -1 || py > 7) return 0;
    for (unsigned i = 0; i < sizeof STROKES / sizeof *STROKES; i++) {
        const double *s = STROKES[i];
        double dx = s[2] - s[0], dy = s[3] - s[1];
        double t = clamp(((px - s[0]) * dx + (py - s[1]) * dy) / (dx * dx + dy * dy), 0, 1);
        double ex = px - s[0] - t * dx, ey = py - s[1] - t * dy;
        if (ex * ex + ey * ey < stroke * stroke) return 1;
    }
    return 0;
}

/* What a point of a surface is like, whatever it belongs to. */
typedef struct {
    vec normal, colour; /* colour: of diffuse light, or of the metal */
    double rough;
    enum { DIFFUSE, METAL, CLEAR } kind;
} surface;

static const vec GOLD_COLOUR = {1.0, 0.74, 0.33};

static surface floor_surface(vec p) {
    if (in_letters(p.x, p.z)) return (surface){v3(0, 1, 0), v3(0.80, 0.46, 0.10), 0, DIFFUSE};
    int odd = ((int)floor(p.x / 0.78 + 100.5) + (int)floor(p.z / 0.78 + 100.2)) & 1;
    return (surface){v3(0, 1, 0), odd ? v3(0.40, 0.385, 0.36) : v3(0.030, 0.044, 0.060), 0, DIFFUSE};
}

static surface shape_surface(const shape *s, vec p) {
    vec local = to_unit(s, sub(p, s->centre));
    vec side = add(scale(s->to_unit[0], local.x), scale(s->to_unit[1], local.y));
    vec normal = unit(add(side, scale(s->to_unit[2], local.z)));
    switch (s->made_of) {
    case GOLD: return (surface){normal, GOLD_COLOUR, 0.20, METAL};
    case STALK: return (surface){normal, v3(0.95, 0.70, 0.32), 0.34, METAL};
    case GLASS: return (surface){normal, v3(1, 1, 1), 0, CLEAR};
    default: return (surface){normal, v3(0.10, 0.22, 0.25), 0, DIFFUSE};
    }
}

/* A direction around the mirror one, by the normals that the eye sees of a rough metal (Heitz 2018, GGX). */
static vec rough_mirror(vec d, vec n, double rough, pair s) {
    vec a, b;
    basis(n, &a, &b);
    double alpha = rough * rough;
    vec eye = unit(v3(-alpha * dot(d, a), -alpha * dot(d, b), -dot(d, n)));
    double length2 = eye.x * eye.x + eye.y * eye.y;
    vec t1 = length2 > 0 ? scale(v3(-eye.y, eye.x, 0), 1 / sqrt(length2)) : v3(1, 0, 0), t2 = cross(eye, t1);
    pair turn = on_circle(s.v);
    double r = sqrt(s.u), x = r * turn.u, y = r * turn.v, w = 0.5 * (1 + eye.z);
    y = (1 - w) * sqrt(greater(0, 1 - x * x)) + w * y;
    vec h = add(add(scale(t1, x), scale(t2, y)), scale(eye, sqrt(greater(0, 1 - x * x - y * y))));
    h = unit(v3(alpha * h.x, alpha * h.y, greater(1e-6, h.z)));
    return mirrored(d, add(add(scale(a, h.x), scale(b, h.y)), scale(n, h.z)));
}

static vec scattered(vec n, pair s) {
    vec a, b;
    basis(n, &a, &b);
    double r = sqrt(s.u);
    pair turn = on_circle(s.v);
    return add(add(scale(a, r * turn.u), scale(b, r * turn.v)), scale(n, sqrt(greater(0, 1 - s.u))));
}

static inline vec schlick(vec facing, double cosine) {
    double m = clamp(1 - cosine, 0, 1), m5 = m * m * m * m * m;
    return add(facing, scale(sub(v3(1, 1, 1), facing), m5));
}

/* ---- paths ----------------------------------------------------------------------------------------------------- */

enum { DEPTH_MAX = 7 };
/* No single bounce may shine brighter than this: rare bright paths cost more noise than they are worth. */
static const double BOUNCE_MAX = 4;

/* The first diffuse surface that the eye meets on a path, straight or by way of glass and gold: what light falls on it,
 * and how much of that reaches the eye. Kept apart from the rest of the pixel because it may be smoothed. */
typedef struct {
    vec light, weight, normal, place;
    int any;
} view;

/* Light along a ray. `lamp_counts`: false once the lamp has been sampled on its own. With `first`, the light of the
 * first diffuse surface goes there and is not part of the sum; `matt_only` then leaves out what coats mirror. */
static vec light(ray r, int depth, int lamp_counts, sampler *s, view *first, int matt_only);

static vec diffuse_light(vec p, vec normal, int depth, sampler *s) {
    vec sum = add(lamp_light(p, normal, next(s)), caustic(p, normal, next(s)));
    vec bounce = light((ray){p, scattered(normal, next(s))}, depth + 1, 0, s, NULL, 0);
    double bright = largest(bounce);
    return add(sum, bright > BOUNCE_MAX ? scale(bounce, BOUNCE_MAX / bright) : bounce);
}

/* How much of the floor's own colour is left that far out: beyond it there is only haze. */
static inline double clearness(vec p) { return 1 - smooth(6, 130, p.x * p.x + p.z * p.z); }

/* The mirror image that a skin shows, with samples of its own: leaving it out must not shift the other ones. */
static vec mirror_image(ray r, vec p, vec normal, const sampler *s) {
    sampler own = {s->index, s->block, s->seed ^ 0x5bd1e995u};
    return light((ray){p, unit(mirrored(r.to, normal))}, 2, 1, &own, NULL, 0);
}

static vec light(ray r, int depth, int lamp_counts, sampler *s, view *first, int matt_only) {
    vec through = v3(1, 1, 1), sum = v3(0, 0, 0);
    for (int seen = 0; depth < DEPTH_MAX; depth++, seen++) {
        hit h = nearest(r);
        if (h.what == NOTHING) return add(sum, mul(through, sky(r.to, lamp_counts)));
        if (h.what == LAMP) return lamp_counts ? add(sum, mul(through, scale(LAMP_COLOUR, LAMP_POWER))) : sum;
        vec p = along(r.from, r.to, h.t);
        double clear = h.what == FLOOR ? clearness(p) : 1;
        if (clear < 1) sum = add(sum, scale(mul(through, sky(v3(r.to.x, 0, r.to.z), 0)), 1 - clear));
        if (clear <= 0) return sum;
        through = scale(through, clear);
        surface f = h.what == FLOOR ? floor_surface(p) : shape_surface(&shapes[h.what], p);
        double cosine = -dot(r.to, f.normal);
        if (f.kind == METAL) {
            vec to = rough_mirror(r.to, f.normal, f.rough, next(s));
            if (dot(to, f.normal) <= 0) return sum;
            through = mul(through, schlick(f.colour, cosine));
            r = (ray){p, unit(to)};
            lamp_counts = 1;
        } else if (f.kind == CLEAR) {
            int inside = cosine < 0;
            vec n = inside ? scale(f.normal, -1) : f.normal;
            double from = inside ? GLASS_INDEX : 1, to = inside ? 1 : GLASS_INDEX;
            double back = fresnel(fabs(cosine), from, to);
            if (first && seen == 0 && !matt_only) sum = scale(mirror_image(r, p, n, s), back);
            if (back < 1) through = scale(through, 1 - back);
            r = (ray){p, back < 1 ? unit(bent(r.to, n, from / to)) : mirrored(r.to, n)};
        } else {
            /* A polished coat over a diffuse body. The eye sees both; further on a coin decides. */
            double coat = schlick(v3(0.04, 0.04, 0.04), cosine).x;
            if (first) {
                if (!matt_only) sum = add(sum, scale(mul(through, mirror_image(r, p, f.normal, s)), coat));
                vec weight = scale(mul(through, f.colour), 1 - coat);
                *first = (view){diffuse_light(p, f.normal, 1, s), weight, f.normal, p, 1};
                return sum;
            }
            if (lamp_counts && next(s).u < 0.5) {
                through = scale(through, 2 * coat);
                r = (ray){p, unit(mirrored(r.to, f.normal))};
                continue;
            }
            vec body = mul(f.colour, diffuse_light(p, f.normal, depth < 3 ? 3 : depth, s));
            return add(sum, scale(mul(through, body), lamp_counts ? 2 * (1 - coat) : 1));
        }
    }
    return sum;
}

/* ---- the picture ----------------------------------------------------------------------------------------------- */

static const vec EYE = {0.10, 1.50, 5.3}, TARGET = {0.02, 0.90, 0};
static const double LENS = 0.020, FOCUS = 5.25, HALF_HEIGHT = 0.292;

typedef struct { int left, top, width, height, full_width, full_height, spp; } job;

/* The filmic curve of Narkowicz (2015), then sRGB. */
static int shown(double x) {
    x = greater(0, x);
    x = clamp(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1);
    x = x <= 0.0031308 ? 12.92 * x : 1.055 * pow(x, 1 / 2.4) - 0.055;
    return (int)(255 * x + 0.5);
}

static inline double tent(double u) { return u < 0.5 ? sqrt(2 * u) - 1 : 1 - sqrt(2 - 2 * u); }

typedef struct {
    vec rest, weight, light, normal, place; /* the colour is rest + weight * light */
    double noise;                           /* standard error of the light's brightness; < 0: nothing to smooth */
} pixel;

static inline double brightness(vec c) { return 0.2126 * c.x + 0.7152 * c.y + 0.0722 * c.z; }
static inline double over(double a, double b) { return b > 1e-9 ? a / b : 0; }

static ray eye_ray(const job *j, int x, int y, pair at, pair lens) {
    vec back = unit(sub(EYE, TARGET)), right = unit(cross(v3(0, 1, 0), back)), up = cross(back, right);
    double step = 2 * HALF_HEIGHT / j->full_height;
    double px = (x + 0.5 + 0.8 * tent(at.u) - 0.5 * j->full_width) * step;
    double py = (0.5 * j->full_height - y - 0.5 - 0.8 * tent(at.v)) * step;
    double radius = LENS * sqrt(lens.u);
    pair turn = on_circle(lens.v);
    vec offset = add(scale(right, radius * turn.u), scale(up, radius * turn.v));
    vec focus = scale(add(add(scale(right, px), scale(up, py)), scale(back, -1)), FOCUS);
    return (ray){add(EYE, offset), unit(sub(focus, offset))};
}

static pixel sampled(const job *j, int x, int y, int matt_only) {
    pixel p = {.noise = -1};
    double count = 0, sum = 0, squares = 0;
    uint32_t block = 1;
    while (block < (uint32_t)j->spp) block *= 2;
    for (int i = 0; i < j->spp; i++) {
        sampler s = {(uint32_t)i, block - 1, mixed((uint32_t)x + mixed((uint32_t)y))};
        pair at = next(&s), lens = next(&s);
        view v = {.any = 0};
        p.rest = add(p.rest, light(eye_ray(j, x, y, at, lens), 0, 1, &s, &v, matt_only));
        if (!v.any) continue;
        double b = brightness(v.light);
        count++, sum += b, squares += b * b;
        p.weight = add(p.weight, v.weight), p.light = add(p.light, mul(v.weight, v.light));
        p.normal = add(p.normal, v.normal), p.place = add(p.place, v.place);
    }
    p.rest = scale(p.rest, 1.0 / j->spp);
    if (count == 0) return p;
    p.light = v3(over(p.light.x, p.weight.x), over(p.light.y, p.weight.y), over(p.light.z, p.weight.z));
    p.weight = scale(p.weight, 1.0 / j->spp);
    p.normal = scale(p.normal, 1 / count), p.place = scale(p.place, 1 / count);
    /* A lone sample knows nothing of its noise: half of what it shows is the guess. */
    p.noise = count > 1 ? sqrt(greater(0, squares - sum * sum / count) / (count * (count - 1))) : 0.5 * sum;
    return p;
}

/* The pixels of the tile and APRON more on each side, as far as the picture goes. */
typedef struct { int left, top, right, bottom; } area_of;

/* How far apart the filter's taps are, pass by pass. APRON is their sum: as far as light is carried. */
enum { PASSES = 3, APRON = 1 + 2 + 3 };
static const int STEPS[PASSES] = {1, 2, 3};

static area_of grown(const job *j, int by) {
    int right = j->left + j->width + by, bottom = j->top + j->height + by;
    return (area_of){j->left > by ? j->left - by : 0, j->top > by ? j->top - by : 0,
                     right < j->full_width ? right : j->full_width, bottom < j->full_height ? bottom : j->full_height};
}

/* How far q may speak for p: alike in direction, place and, within its noise, in brightness. */
static inline double likeness(const pixel *p, const pixel *q, double bright, double tolerance) {
    vec apart = sub(q->place, p->place);
    double turn = dot(p->normal, q->normal), plane = dot(apart, p->normal) * 60;
    double difference = (brightness(q->light) - bright) / tolerance;
    if (turn <= 0) return 0;
    turn *= turn, turn *= turn, turn *= turn, turn *= turn;
    return turn / ((1 + plane * plane) * (1 + dot(apart, apart) * 40) * (1 + difference * difference));
}

/* One pass of an edge-aware a-trous filter (after Dammertz et al. 2010): from -> to. */
static void smooth_light(const pixel *from, pixel *to, int stride, area_of whole, area_of part, int step) {
    static const double bell[3] = {1, 2, 1};
    for (int y = part.top; y < part.bottom; y++)
        for (int x = part.left; x < part.right; x++) {
            const pixel *p = from + (y - whole.top) * stride + (x - whole.left);
            pixel *out = to + (p - from);
            *out = *p;
            if (p->noise < 0) continue;
            vec sum = v3(0, 0, 0);
            double weights = 0, bright = brightness(p->light), noise = 0, tolerance = 0;
            /* The neighbourhood's noise is a better guess than the pixel's own. */
            for (int dy = -1, n = 0; dy <= 1; dy++)
                for (int dx = -1; dx <= 1; dx++) {
                    int nx = x + dx, ny = y + dy;
                    if (nx < whole.left || ny < whole.top || nx >= whole.right || ny >= whole.bottom) continue;
                    const pixel *q = p + dy * stride + dx;
                    if (q->noise >= 0) tolerance = (tolerance * n + q->noise) / (n + 1), n++;
                }
            tolerance = 2.5 * tolerance + 0.01;
            for (int dy = -1; dy <= 1; dy++)
                for (int dx = -1; dx <= 1; dx++) {
                    int nx = x + dx * step, ny = y + dy * step;
                    if (nx < whole.left || ny < whole.top || nx >= whole.right || ny >= whole.bottom) continue;
                    const pixel *q = p + dy * step * stride + dx * step;
                    if (q->noise < 0) continue;
                    double w = bell[dx + 1] * bell[dy + 1] * likeness(p, q, bright, tolerance);
                    sum = add(sum, scale(q->light, w)), weights += w, noise += w * w * q->noise * q->noise;
                }
            if (weights > 0) out->light = scale(sum, 1 / weights), out->noise = sqrt(noise) / weights;
        }
}

static void write_pixel(const job *j, const pixel *p, int x, int y) {
    double cx = (x + 0.5) / j->full_width - 0.5, cy = (y + 0.5) / j->full_height - 0.5;
    vec c = scale(add(p->rest, mul(p->weight, p->light)), 1 - 0.75 * (cx * cx + cy * cy));
    putchar(shown(c.x)), putchar(shown(c.y)), putchar(shown(c.z));
}

static int paint(const job *j) {
    area_of whole = grown(j, APRON);
    int stride = whole.right - whole.left, count = stride * (whole.bottom - whole.top);
    pixel *a = calloc(count, sizeof *a), *b = calloc(count, sizeof *b);
    if (!a || !b) return fputs("not enough memory for this tile\n", stderr), 1;
    for (int y = whole.top, i = 0; y < whole.bottom; y++)
        for (int x = whole.left; x < whole.right; x++, i++) {
            int mine = x >= j->left && x < j->left + j->width && y >= j->top && y < j->top + j->height;
            a[i] = sampled(j, x, y, !mine);
        }
    for (int pass = 0, rim = APRON; pass < PASSES; pass++) {
        rim -= STEPS[pass];
        smooth_light(a, b, stride, whole, grown(j, rim), STEPS[pass]);
        pixel *swap = a;
        a = b, b = swap;
    }
    printf("P6\n# tile at %d,%d of %dx%d\n", j->left, j->top, j->full_width, j->full_height);
    printf("%d %d\n255\n", j->width, j->height);
    for (int y = j->top; y < j->top + j->height; y++)
        for (int x = j->left; x < j->left + j->width; x++)
            write_pixel(j, a + (y - whole.top) * stride + (x - whole.left), x, y);
    free(a), free(b);
    return ferror(stdout) || fflush(stdout) != 0;
}

static void usage(void) {
    fputs("usage: path-tracer [--tile X,Y | --tile N] [--tiles 12x8] [--size 1200x800] [--spp 8]\n", stderr);
    exit(2);
}

static job parse(int argc, char **argv) {
    int columns = 1, rows = 1, width = 1200, height = 800, spp = 8, column = 0, row = 0, index = -1;
    char rest;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) usage();
        const char *flag = argv[i], *value = argv[i + 1];
        int good = 0;
        if (strcmp(flag, "--tiles") == 0) good = sscanf(value, "%dx%d%c", &columns, &rows, &rest) == 2;
        else if (strcmp(flag, "--size") == 0) good = sscanf(value, "%dx%d%c", &width, &height, &rest) == 2;
        else if (strcmp(flag, "--spp") == 0) good = sscanf(value, "%d%c", &spp, &rest) == 1;
        else if (strcmp(flag, "--tile") == 0)
            good = sscanf(value, "%d,%d%c", &column, &row, &rest) == 2 || (sscanf(value, "%d%c", &index, &rest) == 1 && index >= 0);
        if (!good) usage();
    }
    if (width < 1 || height < 1 || width > 16384 || height > 16384 || spp < 1 || spp > 65536) usage();
    if (columns < 1 || rows < 1 || columns > width || rows > height) usage();
    if (index >= 0) column = index % columns, row = index / columns;
    if (column < 0 || column >= columns || row < 0 || row >= rows) usage();
    int left = column * width / columns, top = row * height / rows;
    int right = (column + 1) * width / columns, bottom = (row + 1) * height / rows;
    return (job){left, top, right - left, bottom - top, width, height, spp};
}

int main(int argc, char **argv) {
    job j = parse(argc, argv);
    lamp_normal = unit(sub(v3(0.1, 0.5, 0), LAMP_CENTRE));
    basis(lamp_normal, &lamp_u, &lamp_v);
    build_scene();
    build_tree();
    build_discs();
    return paint(&j);
}
