"""A plugin of pytest that runs whatever is chosen with the defect that DBOS_EVENTS_DEFECT names."""

from tests.defects.planted import plant_named

plant_named()
