-- The layout of a record, as record_format.py describes it. Offsets here count from 1.
local GRACE_FIRST, GRACE_LAST = 3, 10
local ATTEMPT_FIRST, ATTEMPT_LAST = 11, 14
local OFFER_FIRST, OFFER_LAST = 15, 18
local OWNER_FIRST, OWNER_LAST, OWNER_SIZE = 19, 34, 16
local FINGERPRINT_FIRST, FINGERPRINT_LAST, FINGERPRINT_SIZE = 35, 50, 16
local FIRST_ATTEMPT_FIRST, FIRST_ATTEMPT_LAST = 51, 54
local DIED_FIRST, DIED_LAST = 55, 58
local HEADER_SIZE = 58
-- Its first two bytes: version and state.
local RUNNING, HELD, COMPLETED, RELEASED = '\1p', '\1h', '\1c', '\1r'
