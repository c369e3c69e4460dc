SELECT wildlife_species AS species, count(*) AS strikes FROM birdstrikes WHERE wildlife_species NOT LIKE 'Unknown%' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10
SELECT origin_state AS state, count(*) AS strikes, sum(cost_total) AS dollars FROM birdstrikes GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 10
SELECT substr(flight_date, 1, 4) AS year, count(*) AS strikes, sum(cost_total) AS dollars FROM birdstrikes GROUP BY 1 ORDER BY 1
SELECT phase_of_flight AS phase, count(*) AS strikes, round(avg(speed_ias_in_knots), 1) AS mean_knots FROM birdstrikes GROUP BY 1 ORDER BY 2 DESC
SELECT time_of_day, wildlife_size, count(*) AS strikes FROM birdstrikes GROUP BY 1, 2 ORDER BY 1, 2
SELECT aircraft_make_model AS aircraft, max(cost_total) AS dollars, airport_name AS airport FROM birdstrikes GROUP BY 1 ORDER BY 2 DESC LIMIT 10
SELECT substr(flight_date, 6, 2) AS month, count(*) AS strikes, round(100.0 * sum(effect_amount_of_damage <> 'None') / count(*), 1) AS percent_damaged FROM birdstrikes GROUP BY 1 ORDER BY 1
WITH yearly AS (SELECT aircraft_airline_operator AS operator, substr(flight_date, 1, 4) AS year, count(*) AS strikes FROM birdstrikes GROUP BY 1, 2) SELECT operator, year, strikes, rank() OVER (PARTITION BY year ORDER BY strikes DESC, operator) AS place FROM yearly WHERE operator NOT IN ('MILITARY', 'BUSINESS', 'UNKNOWN') ORDER BY place, year LIMIT 13
SELECT a.airport_name AS airport, count(*) AS pairs_within_a_week FROM birdstrikes a JOIN birdstrikes b ON a.airport_name = b.airport_name AND b.rowid > a.rowid AND julianday(b.flight_date) - julianday(a.flight_date) BETWEEN 0 AND 7 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10
SELECT cast(speed_ias_in_knots / 50 AS integer) * 50 AS knots_from, count(*) AS strikes, round(avg(cost_total)) AS mean_dollars FROM birdstrikes WHERE speed_ias_in_knots IS NOT NULL GROUP BY 1 ORDER BY 1
