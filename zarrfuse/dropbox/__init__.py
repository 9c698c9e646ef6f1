"""Files dropped into the drop box: jobs, the converter's process, publication of the store."""
