-- Health of a LatencyPolicy. It answers for the policy and not for the API: a breach is Healthy, so that a sync that brings the
-- fix is not held up by what it mends. So is a pause: with Suspended a sync that has waves would wait for its end.
local function progressing(message)
  return { status = "Progressing", message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return progressing("it is being deleted")
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return progressing("the operator has not looked at this version of it yet")
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end
local function sentence(condition)
  return condition.reason .. ": " .. condition.message
end

local stalled, ready = conditions.Stalled, conditions.Ready
if stalled ~= nil and stalled.status == "True" then
  return { status = "Degraded", message = sentence(stalled) }
end
if ready == nil then
  return progressing("the operator has not looked at it yet")
end
if ready.status ~= "True" then
  -- Something that it refers to is not there or not usable: that may come without any change of the policy.
  return progressing(sentence(ready))
end

local within, allowed = conditions.WithinObjective, conditions.RemediationAllowed
if within ~= nil and within.status == "False" then
  return { status = "Healthy", message = sentence(within) }
end
if allowed ~= nil and allowed.reason == "Paused" then
  return { status = "Healthy", message = sentence(allowed) }
end
return { status = "Healthy", message = sentence(ready) }
