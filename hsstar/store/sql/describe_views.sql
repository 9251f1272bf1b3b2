-- The views of the schema, with the names and types of their columns in their order. No parameters.
SELECT
    classes.relname AS view,
    array_agg(CAST(columns.attname AS text) ORDER BY columns.attnum) AS columns,
    array_agg(format_type(columns.atttypid, columns.atttypmod) ORDER BY columns.attnum) AS types
FROM pg_class AS classes
JOIN pg_attribute AS columns ON columns.attrelid = classes.oid AND columns.attnum > 0 AND NOT columns.attisdropped
WHERE classes.relnamespace = CAST(current_schema() AS regnamespace) AND classes.relkind = 'v'
GROUP BY classes.relname
ORDER BY classes.relname
