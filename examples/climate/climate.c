/* climate: one member of a sweep of energy-balance models, driven by the forcing the IPCC assesses and judged by the
 * temperature NASA measures.
 *
 *   climate feedback=2.1 diffusion=0.55 mixed_m=70 exchange=0.7 aerosol=1 ice_albedo=0.6
 *
 * reads /data/erf.csv and /data/gistemp.csv and prints one line of JSON: the parameters, how well 1880-2023 is met, and
 * what the model then says about the climate (sensitivity, transient response, imbalance, polar amplification).
 * Parameters may stand in one argument or many, or on standard input; what is not named keeps its default. Another
 * folder is named by data=FOLDER.
 *
 * The model is North's (1975; North and Coakley 1979): annual mean temperature T by x = sin(latitude),
 *
 *   C dT/dt   = S(x) (1 - albedo(T, x)) - (A + B T) + d/dx D (1 - x^2) dT/dx - g (T - Tdeep) + F(x, t)
 *   Cd dTdeep/dt = g (T - Tdeep)
 *
 * with an albedo that rises smoothly where it freezes, a mixed layer over a deep ocean (Held et al. 2010), and the
 * forcing of aerosols laid on the northern middle latitudes. A is set so that the world of 1750 has its known mean.
 * Diffusion and emission are stepped implicitly, the albedo explicitly; the unit of time is a year.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BANDS = 180, STEPS_A_YEAR = 52, YEAR_FIRST = 1750, YEARS_MAX = 400 };

static const double SOLAR = 1361.0 / 4;           /* W/m2, mean over the globe */
static const double MEAN_1750 = 13.7;             /* C */
static const double DOUBLING = 3.93;              /* W/m2, IPCC AR6 */
static const double DEEP_M = 1100;                /* m of water under the mixed layer */
static const double WATER = 0.71 * 1025 * 3985 / 3.15576e7; /* W year/(m3 K), sea covering 71 % of the globe */
static const double ALL_FROZEN = -20, ALL_OPEN = 0; /* C, of a year's mean: between them the ice thins out */

/* ---- parameters ------------------------------------------------------------------------------------------------ */

typedef struct { const char *name; double value, low, high; } parameter;

enum { FEEDBACK, DIFFUSION, MIXED, EXCHANGE, AEROSOL, ICE_ALBEDO, PARAMETERS };

static parameter parameters[PARAMETERS] = {
    [FEEDBACK] = {"feedback", 2.1, 0.5, 5},      /* B, W/(m2 K): how emission grows with temperature */
    [DIFFUSION] = {"diffusion", 0.55, 0.05, 5},   /* D, W/(m2 K): how well heat flows to the poles */
    [MIXED] = {"mixed_m", 70, 5, 500},            /* m of water that warm at once */
    [EXCHANGE] = {"exchange", 0.70, 0, 5},        /* g, W/(m2 K): into the deep ocean */
    [AEROSOL] = {"aerosol", 1, 0, 3},             /* times the best estimate of aerosol forcing */
    [ICE_ALBEDO] = {"ice_albedo", 0.60, 0.3, 0.9},
};

static const char *folder = "/data";

static double value(int which) { return parameters[which].value; }

static void fail(const char *what, const char *why) {
    fprintf(stderr, "climate: %s: %s\n", what, why);
    exit(2);
}

static void set(const char *word) {
    const char *equals = strchr(word, '=');
    if (!equals) fail(word, "is not NAME=VALUE");
    size_t length = (size_t)(equals - word);
    if (length == 4 && memcmp(word, "data", 4) == 0) {
        char *copy = malloc(strlen(equals + 1) + 1);
        if (!copy) fail(word, "not enough memory");
        folder = strcpy(copy, equals + 1);
        return;
    }
    for (parameter *p = parameters; p < parameters + PARAMETERS; p++) {
        if (strlen(p->name) != length || memcmp(p->name, word, length) != 0) continue;
        char *end;
        p->value = strtod(equals + 1, &end);
        if (end == equals + 1 || *end || !(p->value >= p->low && p->value <= p->high)) fail(word, "is out of bounds");
        return;
    }
    fail(word, "is no parameter of this model");
}

static void set_all(char *words) {
    for (char *word = strtok(words, " \t\r\n"); word; word = strtok(NULL, " \t\r\n")) set(word);
}

/* ---- measured series ------------------------------------------------------------------------------------------- */

static double greenhouse[YEARS_MAX], aerosol[YEARS_MAX]; /* W/m2 from YEAR_FIRST on; greenhouse: all but aerosols */
static double measured[YEARS_MAX];                       /* K above 1951-1980; NAN where nobody measured */
static int years;

static FILE *open_data(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file) fail(path, strerror(errno));
    return file;
}

/* Cuts a line of comma-separated text into fields, in place. */
static int cut(char *line, char **fields, int max) {
    int count = 0;
    for (char *at = line; at && count < max; count++) {
        fields[count] = at;
        at = strchr(at, ',');
        if (at) *at++ = 0;
        fields[count][strcspn(fields[count], "\r\n")] = 0;
    }
    return count;
}

static int column(char **fields, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(fields[i], name) == 0) return i;
    fail(name, "is no column of the data");
    return -1;
}

static void read_forcing(void) {
    char line[4096], *field[64];
    FILE *file = open_data("erf.csv");
    if (!fgets(line, sizeof line, file)) fail("erf.csv", "is empty");
    int count = cut(line, field, 64), total = column(field, count, "total"), dust = column(field, count, "aerosol");
    while (fgets(line, sizeof line, file)) {
        if (cut(line, field, 64) != count) fail("erf.csv", "has a line of another length");
        /* A row is named by the middle of its year: 1750.5. */
        int year = (int)strtod(field[0], NULL);
        if (year != YEAR_FIRST + years || years == YEARS_MAX) fail(field[0], "is not the next year");
        aerosol[years] = strtod(field[dust], NULL);
        greenhouse[years] = strtod(field[total], NULL) - aerosol[years];
        years++;
    }
    fclose(file);
    if (years < 200) fail("erf.csv", "is too short");
}

static void read_temperature(void) {
    char line[256], *field[2];
    FILE *file = open_data("gistemp.csv");
    for (int i = 0; i < YEARS_MAX; i++) measured[i] = NAN;
    if (!fgets(line, sizeof line, file)) fail("gistemp.csv", "is empty");
    while (fgets(line, sizeof line, file)) {
        if (cut(line, field, 2) != 2) fail("gistemp.csv", "has a line that is not year,temperature");
        int i = (int)strtol(field[0], NULL, 10) - YEAR_FIRST;
        if (i >= 0 && i < years) measured[i] = strtod(field[1], NULL);
    }
    fclose(file);
}

/* ---- the model ------------------------------------------------------------------------------------------------- */

typedef struct { double surface[BANDS], deep[BANDS]; } world;

static double sunlight[BANDS], open_albedo[BANDS], aerosol_share[BANDS];
static double flow[BANDS + 1]; /* D (1 - x^2) / dx^2 at the borders of the bands */
static double emission;        /* A */

static double band_sine(int i) { return (i + 0.5) * 2 / BANDS - 1; }
static double mean(const double *a) {
    double sum = 0;
    for (int i = 0; i < BANDS; i++) sum += a[i];
    return sum / BANDS;
}

static void lay_out(void) {
    const double width = 2.0 / BANDS;
    for (int i = 0; i < BANDS; i++) {
        double x = band_sine(i), p2 = (3 * x * x - 1) / 2, latitude = asin(x) * 180 / acos(-1);
        sunlight[i] = SOLAR * (1 - 0.482 * p2);
        open_albedo[i] = 0.30 + 0.08 * p2;
        aerosol_share[i] = 0.4 + exp(-pow((latitude - 32) / 22, 2));
    }
    double share = mean(aerosol_share);
    for (int i = 0; i < BANDS; i++) aerosol_share[i] /= share;
    for (int i = 0; i <= BANDS; i++) {
        double x = i * width - 1;
        flow[i] = value(DIFFUSION) * (1 - x * x) / (width * width);
    }
}

static double absorbed(int i, double t) {
    double warm = (t - ALL_FROZEN) * (1 / (ALL_OPEN - ALL_FROZEN));
    warm = warm < 0 ? 0 : warm > 1 ? 1 : warm;
    double frozen = 1 - warm * warm * (3 - 2 * warm);
    return sunlight[i] * (1 - open_albedo[i] - (value(ICE_ALBEDO) - open_albedo[i]) * frozen);
}

/* One step of `dt` years under `forcing`, by the Thomas algorithm. Without `deep` the deep ocean takes no heat. */
static void step(world *w, const double *forcing, double dt, int deep) {
    double inertia = WATER * value(MIXED) / dt, exchange = deep ? value(EXCHANGE) : 0;
    double slope[BANDS], right[BANDS];
    for (int i = 0; i < BANDS; i++) {
        double south = flow[i], north = flow[i + 1]; /* both are 0 at the poles */
        double diagonal = inertia + value(FEEDBACK) + exchange + south + north;
        double gained = absorbed(i, w->surface[i]) - emission + forcing[i];
        double source = inertia * w->surface[i] + gained + exchange * w->deep[i];
        double scale = 1 / (i ? diagonal - south * slope[i - 1] : diagonal);
        slope[i] = north * scale;
        right[i] = (source + (i ? south * right[i - 1] : 0)) * scale;
    }
    for (int i = BANDS - 1; i >= 0; i--) {
        w->surface[i] = right[i] + (i < BANDS - 1 ? slope[i] * w->surface[i + 1] : 0);
        if (deep) w->deep[i] += dt * exchange * (w->surface[i] - w->deep[i]) / (WATER * DEEP_M);
    }
}

static void fill(double *forcing, double everywhere, double dust) {
    for (int i = 0; i < BANDS; i++) forcing[i] = everywhere + dust * aerosol_share[i];
}

enum { SETTLING_STEPS = 900 };

/* The steady world of 1750. A follows the light absorbed, so that the steady mean is MEAN_1750 exactly. */
static world steady_1750(void) {
    world w = {{0}, {0}};
    double none[BANDS];
    fill(none, 0, 0);
    for (int i = 0; i < BANDS; i++) w.surface[i] = 27 - 42 * band_sine(i) * band_sine(i);
    for (int n = 0; n < SETTLING_STEPS; n++) {
        double light = 0;
        for (int i = 0; i < BANDS; i++) light += absorbed(i, w.surface[i]);
        emission = light / BANDS - value(FEEDBACK) * MEAN_1750;
        step(&w, none, 0.25, 0);
    }
    memcpy(w.deep, w.surface, sizeof w.deep);
    return w;
}

/* Warming once twice the carbon dioxide has had its whole effect. */
static double sensitivity(const world *start) {
    world w = *start;
    double forcing[BANDS];
    fill(forcing, DOUBLING, 0);
    for (int n = 0; n < SETTLING_STEPS; n++) step(&w, forcing, 0.25, 0);
    return mean(w.surface) - mean(start->surface);
}

/* Warming over years 61-80 of a rise of carbon dioxide by 1 % a year. */
static double transient_response(const world *start) {
    world w = *start;
    double forcing[BANDS], sum = 0;
    for (int n = 0; n < 80 * STEPS_A_YEAR; n++) {
        fill(forcing, DOUBLING * (n + 0.5) / STEPS_A_YEAR * log(1.01) / log(2), 0);
        step(&w, forcing, 1.0 / STEPS_A_YEAR, 1);
        if (n >= 60 * STEPS_A_YEAR) sum += mean(w.surface);
    }
    return sum / (20 * STEPS_A_YEAR) - mean(start->surface);
}

/* Heat held above that of 0 C, W year/m2. */
static double heat(const world *w) { return WATER * (value(MIXED) * mean(w->surface) + DEEP_M * mean(w->deep)); }

/* The years since 1750: mean temperature, heat gained, temperature north of 66.5 degrees. */
static double global[YEARS_MAX], imbalance[YEARS_MAX], arctic[YEARS_MAX];

static double mean_north(const world *w, double sine) {
    double sum = 0;
    int bands = 0;
    for (int i = BANDS - 1; i >= 0 && band_sine(i) > sine; i--) sum += w->surface[i], bands++;
    return sum / bands;
}

static void relive(const world *start) {
    world w = *start;
    double forcing[BANDS];
    for (int y = 0; y < years; y++) {
        double before_year = heat(&w);
        for (int n = 0; n < STEPS_A_YEAR; n++) {
            /* The series hold mid-year values: between two of them goes a straight line. */
            double at = y + (n + 0.5) / STEPS_A_YEAR - 0.5, part = at - floor(at);
            int before = at < 0 ? 0 : (int)at, after = before + 1 < years ? before + 1 : before;
            if (at < 0) part = 0;
            fill(forcing, greenhouse[before] * (1 - part) + greenhouse[after] * part,
                 value(AEROSOL) * (aerosol[before] * (1 - part) + aerosol[after] * part));
            step(&w, forcing, 1.0 / STEPS_A_YEAR, 1);
            global[y] += mean(w.surface) / STEPS_A_YEAR;
            arctic[y] += mean_north(&w, 0.917) / STEPS_A_YEAR;
        }
        imbalance[y] = heat(&w) - before_year;
    }
}

/* ---- judging --------------------------------------------------------------------------------------------------- */

static double average(const double *series, int from, int to) {
    double sum = 0;
    for (int year = from; year <= to; year++) sum += series[year - YEAR_FIRST];
    return sum / (to - from + 1);
}

/* K a decade, by least squares. */
static double trend(const double *series, int from, int to) {
    double middle = (from + to) / 2.0, level = average(series, from, to), up = 0, across = 0;
    for (int year = from; year <= to; year++) {
        up += (year - middle) * (series[year - YEAR_FIRST] - level);
        across += (year - middle) * (year - middle);
    }
    return 10 * up / across;
}

/* Root of the mean squared error against what was measured, both seen from their own 1951-1980. */
static double misfit(double *explained) {
    double base = average(global, 1951, 1980), squares = 0, sum = 0, spread = 0;
    int count = 0;
    for (int i = 0; i < years; i++)
        if (!isnan(measured[i])) {
            double error = global[i] - base - measured[i];
            squares += error * error, sum += measured[i], spread += measured[i] * measured[i], count++;
        }
    if (count == 0) fail("gistemp.csv", "shares no year with erf.csv");
    *explained = 1 - squares / (spread - sum * sum / count);
    return sqrt(squares / count);
}

/* Latitude down to which the north is frozen. */
static double ice_line(const world *w) {
    for (int i = BANDS - 1; i >= 0; i--)
        if (w->surface[i] > (ALL_FROZEN + ALL_OPEN) / 2) return asin(band_sine(i)) * 180 / acos(-1);
    return -90;
}

int main(int argc, char **argv) {
    char line[1024];
    for (int i = 1; i < argc; i++) set_all(argv[i]);
    if (argc == 1 && fgets(line, sizeof line, stdin)) set_all(line);
    read_forcing();
    read_temperature();
    if (years < 2023 - YEAR_FIRST + 1) fail("erf.csv", "ends before 2023");

    lay_out();
    world start = steady_1750();
    relive(&start);
    double explained, error = misfit(&explained);
    double warming = average(global, 2014, 2023) - average(global, 1850, 1900);
    double arctic_warming = average(arctic, 2014, 2023) - average(arctic, 1850, 1900);

    printf("{");
    for (int i = 0; i < PARAMETERS; i++) printf("\"%s\":%g,", parameters[i].name, parameters[i].value);
    printf("\"rmse_k\":%.4f,\"r2\":%.4f,", error, explained);
    printf("\"trend_1975_2023_k_decade\":%.3f,", trend(global, 1975, 2023));
    printf("\"measured_trend_k_decade\":%.3f,", trend(measured, 1975, 2023));
    printf("\"warming_2014_2023_k\":%.3f,\"imbalance_2014_2023_w_m2\":%.3f,", warming, average(imbalance, 2014, 2023));
    printf("\"arctic_amplification\":%.2f,\"ice_line_deg\":%.1f,", arctic_warming / warming, ice_line(&start));
    printf("\"ecs_k\":%.3f,\"tcr_k\":%.3f}\n", sensitivity(&start), transient_response(&start));
    return ferror(stdout) || fflush(stdout) != 0;
}
