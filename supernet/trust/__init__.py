"""How far a ranking can be trusted: functions of numbers, tables and the page that shows them."""
